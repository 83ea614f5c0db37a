"""The site. Build it: python -m sphinx -W --keep-going docs docs/_build"""
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent/"_ext"), str(Path(__file__).parent.parent)]

import fastopt  # noqa: E402

project, author = "fastopt", "The maintainers of fastopt"
version = release = fastopt.__version__
copyright = "the maintainers of fastopt, under the Apache License 2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "pages"]
exclude_patterns = ["_build"]
default_role, smartquotes = "py:obj", False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
html_theme = "pydata_sphinx_theme"
html_title = f"fastopt {version}"
html_sidebars = {page: [] for page in ("index", "examples", "contributing", "changelog")}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False, "secondary_sidebar_items": {"**": ["page-toc"], "methods/index": []},
    "footer_start": ["copyright"], "footer_end": []}
