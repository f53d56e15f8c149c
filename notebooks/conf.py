"""The web book: Sphinx reads the notebooks where they are, with the outputs they were committed with (make book)."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # the API's docstrings need the frameworks, but no GPU

import companion  # noqa: E402
from tools import book, publish  # noqa: E402

project = "BERT + CNN"
author = "The BERT + CNN series' authors"
copyright = "The BERT + CNN series' authors. Texts CC BY 4.0, code Apache-2.0"
version = release = companion.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "tools.book",
    "tools.box",
    "tools.reading",
]
# Only what is named here gets in: the course's source, with its solutions, stays out whatever is added to it.
include_patterns = ["*.md", "[0-9][0-9]_*.ipynb"]
if os.environ.get("IN_CLASS"):  # the teacher's pages, which the students' book leaves out: make book IN_CLASS=yes
    include_patterns += ["coursework/README.md", "coursework/grading.md"]

toc_object_entries = False

nb_execution_mode = "off"
nb_custom_formats = {".ipynb": "tools.book.read"}
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
html_math_renderer = "mathml"
myst_heading_anchors = 3

default_role = "code"  # docstrings quote code in single backticks
add_module_names = False
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "config_class"}
autodoc_inherit_docstrings = False
autodoc_typehints = "none"  # docstrings give shapes, which say more
autodoc_preserve_defaults = True
nitpick_ignore_regex = [("py:.*", r"(?!companion\b).*")]  # other projects' names lead nowhere without a network

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"

copybutton_selector = "div:not(.output) > div.highlight pre"  # code, not its output

classifier = str(ROOT / "companion" / "assets" / "classifier")  # answers in the box on some pages

html_theme = "sphinx_book_theme"
html_title = "How does a CNN perform after BERT embedding?"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_static_path = ["book.css", "book/bert_cnn.js", "book/box.js"]
html_css_files = ["book.css"]
html_sourcelink_suffix = ""
html_show_search_summary = False  # it would fetch pages, which a browser forbids where they are files
html_theme_options = book.addresses(publish.repository()) | {
    "show_toc_level": 2,
    "footer_content_items": ["copyright"],
    "navbar_persistent": [],  # the search stands in the sidebar
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
