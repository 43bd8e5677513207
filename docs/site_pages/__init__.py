"""Parts of the documentation site that are computed from the code: `make docs` uses them."""
