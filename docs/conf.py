"""Sphinx configuration of the documentation site; ``make docs`` builds it."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

from site_pages import links, reference  # noqa: E402

from atlas import __version__  # noqa: E402

project = "Feature atlas"
author = "the authors of Feature atlas"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["site_pages"]

highlight_language = "text"

# Markdown and the notebook. The notebook is stored with its outputs; tests/documents/test_tutorial.py runs it.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"
suppress_warnings = [
    "myst.header",  # pages written for GitHub may skip a level
    "misc.highlighting_failure",  # Cypher with comments and undirected edges
]

# The reference of the Python interface.
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # signatures have the types
autodoc_default_options = {
    "members": True,
    # scikit-learn adds these methods to every estimator.
    "exclude-members": "set_fit_request, set_predict_request, set_score_request, get_metadata_routing",
}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# The page. Nothing is loaded from another server: the site works offline.
html_theme = "pydata_sphinx_theme"
html_title = "Feature atlas"
html_static_path = ["_static"]
html_css_files = ["atlas.css"]
html_sidebars = {"gallery": [], "glossary": []}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "navigation_with_keys": True,
    "search_bar_text": "Search the documentation",
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app):
    """Connect the pages that are written from the code, and the links out of this folder."""
    app.connect("builder-inited", reference.write)
    app.connect("source-read", links.resolve)
