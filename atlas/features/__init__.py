"""Everything an atlas stores about one feature, for terminals, notebooks and HTML pages."""
