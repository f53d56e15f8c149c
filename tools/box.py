"""What puts the box on the book's pages: a Sphinx extension that exports the classifier and places the form."""

from pathlib import Path

from docutils import nodes
from sphinx.errors import ConfigError
from sphinx.transforms import SphinxTransform

from tools import browser

FORM = Path(__file__).parent.parent / "notebooks" / "book" / "box.html"
WEIGHTS = "_static/bert_cnn_weights.js"
SCRIPTS = ["bert_cnn.js", "box.js"]


def has_box(docname: str) -> bool:
    return docname == "index" or docname[:2] in ("00", "09")


def export(app) -> None:
    """Write the classifier where the pages find it, before any page is read."""
    if app.builder.format == "html":
        path = Path(app.outdir) / WEIGHTS
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            browser.write(Path(app.config.classifier), path)
        except ValueError as error:
            raise ConfigError(str(error)) from None


class PlaceBox(SphinxTransform):
    """The form stands after a page's introduction, before its first section."""

    default_priority = 400

    def apply(self, **_):
        path = Path(self.app.outdir) / WEIGHTS
        if has_box(self.env.docname) and path.exists():
            form = FORM.read_text(encoding="utf-8").format(megabytes=round(path.stat().st_size / 1e6))
            first = next(node for node in self.document[0].children if isinstance(node, nodes.section))
            self.document[0].insert(self.document[0].index(first), nodes.raw("", form, format="html"))


def add_scripts(app, pagename: str, *_) -> None:
    for script in SCRIPTS if has_box(pagename) else []:
        app.add_js_file(script, loading_method="defer")


def setup(app):
    app.add_config_value("classifier", "", "html", types=str)
    app.connect("builder-inited", export)
    app.connect("html-page-context", add_scripts)
    app.add_transform(PlaceBox)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
