"""Configuration of Sphinx: sphinx-build -W --keep-going -b html docs build/docs.

Run it in an environment with `pip install '.[docs]'`. It executes the tutorial and the
gallery.
"""

import sys
from pathlib import Path

import l63fast

sys.path.append(str(Path(__file__).parent / "_extensions"))

project = "l63fast"
author = "the l63fast developers"
copyright = f"{author}, MIT licence"
version = release = l63fast.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "command_line",
    "docstrings",
    "gallery",
    "notebook_copy",
]
exclude_patterns = ["_extensions"]

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Each notebook runs in a folder of its own; a cell that fails fails the build.
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell, with kernels that Numba compiles first
nb_merge_streams = True

autosummary_generate = False
autodoc_typehints = "none"  # the docstrings have shapes and units
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
toc_object_entries_show_parents = "hide"
smartquotes_action = "D"  # dashes; (..., 3) stays as it is

default_role = "literal"  # `name` in docstrings

html_theme = "furo"
html_title = f"l63fast {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
