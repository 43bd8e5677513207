"""Training: SAEs over sites, widths, seeds and architectures, with floors, in one run of the model."""
