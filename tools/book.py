"""What the web book adds to Sphinx: how notebooks and docstrings are read, and where links and citations lead."""

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

from tools import publish, reading, series, solutions
from tools.publish import COLAB, GITHUB

LINK = re.compile(r"\[Open in Colab\]\([^)]*\)\n\n")
SPELLINGS = {"03_pytorch_class": "PyTorch", "04_keras_class": "Keras", "05_functional": "functional"}
CITED = re.compile(r"([A-Z]\w+)(?:,?\s+et\s+al\.|(?:,\s+[A-Z]\w+)*\s+(?:and|&)\s+[A-Z]\w+)?,?\s+\(?((?:19|20)\d\d)\b")
NUMBERED = re.compile(r"[Nn]otebooks?\s+\d\d(?:(?:,|\s+and|\s+or|\s+to)\s+\d\d)*\b")


def read(text: str) -> nbformat.NotebookNode:
    """A notebook as the book shows it: without what only Colab needs, its pictures with their alternative text.

    The solutions to its exercises follow, folded away.
    """
    notebook = nbformat.reads(text, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "colab" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub("", cell.source)
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = reading.align(output.data["text/html"])
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt:
                cell.metadata["mystnb"] = {"image": {"alt": alt}}  # of the cell: myst-nb has none for an output
    number = re.match(r"# (\d\d) ", notebook.cells[0].source)
    if number and (page := solutions.page(series.notebooks([number[1]])[0])).exists():
        notebook.cells.append(nbformat.v4.new_markdown_cell(folded(page.read_text(encoding="utf-8"))))
    return notebook


def folded(page: str) -> str:
    """A page of solutions as MyST: one box per exercise, closed until the reader opens it."""
    beginning = re.findall(r"(?ms)^```python\n.*?^```$", page.split("## Exercise")[0])
    parts = {"The cell that the solutions share": beginning[0]} if beginning else {}
    parts |= {f"Exercise {number}: a solution": text for number, text in solutions.sections(page).items()}
    return "\n\n".join(f":::::{{dropdown}} {title}\n{text}\n:::::" for title, text in parts.items())


def addresses(repo: str) -> dict:
    """The theme's buttons that lead to the repository and to Colab; none before the address is stamped."""
    if not repo:
        return {}
    return {
        "repository_url": f"{GITHUB}/{repo}",
        "repository_branch": "main",
        "path_to_docs": "notebooks",
        "use_repository_button": True,
        "launch_buttons": {"colab_url": COLAB},
    }


def layout(app, what, name, thing, options, lines: list[str]) -> None:
    """Docstrings are plain text: indented lines are shown as they are, lines that open with `name:` as a list."""
    shown, within, before = [], None, ""
    for line in lines:
        if line.startswith("    ") and not before:
            shown += ["::", ""] if within != "block" else []
            within = "block"
        elif re.match(r"[a-z_]\w*(, [a-z_]\w*)*: ", line):
            shown += [""] if within != "list" else []
            within, line = "list", re.sub(r"^(.*?):", r"- **\1**:", line)
        elif within == "list" and line and before and not (before.endswith(".") and line[0].isupper()):
            line = "  " + line
        elif line and not (within == "block" and line.startswith("    ")):
            shown += [""] if within == "list" else []
            within = None
        shown.append(line)
        before = line
    lines[:] = shown


def list_coursework(app, docname: str, source: list[str]) -> None:
    """The teacher's pages follow the series, if they are there (a toctree of nothing is a warning)."""
    if docname == "index" and any(page.startswith("coursework/") for page in app.env.found_docs):
        source[0] += "\n```{toctree}\n:hidden:\n:caption: In class\n:glob:\n\ncoursework/*\n```\n"


def cited(text: str):
    """(match, key) for each author and year: "Kim 2014" has the key kim2014."""
    return [(match, (match[1] + match[2]).lower()) for match in CITED.finditer(text)]


def terms(glossary: str) -> dict[str, str]:
    """The terms of the glossary, in lower case -> their places on its page."""
    return {term.lower(): nodes.make_id(term) for term in re.findall(r"(?m)^### (.+)$", glossary)}


def a_term(terms) -> re.Pattern:
    """Matches any of the terms, the longest first, and their plurals."""
    longest_first = sorted(map(re.escape, terms), key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(longest_first)})s?\b", re.IGNORECASE)


class LinkWords(SphinxPostTransform):
    """Authors with a year lead to the bibliography, "notebook 07" to that notebook, and a term to the glossary.

    A term leads there where a notebook uses it first.
    """

    default_priority = 20

    def run(self, **_):
        self.terms = terms((series.ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8"))
        self.a_term = a_term(self.terms)
        self.unused = set(self.terms) if re.match(r"\d\d_", self.env.docname) else set()
        for paragraph in self.document.findall(nodes.paragraph):
            join_texts(paragraph)
        for text in list(self.document.findall(nodes.Text)):
            if not isinstance(text.parent, (nodes.paragraph, nodes.emphasis, nodes.term)) or inside_a_link(text):
                continue
            parts, end = [], 0
            for words, page, place in sorted(self.targets(text), key=lambda target: target[0].start()):
                if words.start() < end:  # a term within a citation
                    continue
                parts.append(nodes.Text(text[end : words.start()]))
                label = nodes.Text(words[0])
                parts.append(make_refnode(self.app.builder, self.env.docname, page, place, label))
                end = words.end()
            if parts:
                text.parent.replace(text, [*parts, nodes.Text(text[end:])])

    def targets(self, text: str):
        """(match, page, place on it) for each word that leads somewhere."""
        bibtex: Any = self.env.get_domain("cite")
        listed = {citation.key: citation for citation in bibtex.citations}
        for match, key in cited(text):
            if key in listed:
                yield match, listed[key].bibliography_key.docname, listed[key].citation_id
        pages = {page[:2]: page for page in self.env.found_docs}
        for numbers in NUMBERED.finditer(text):
            for number in re.compile(r"\d\d").finditer(text, *numbers.span()):
                if number[0] in pages:
                    yield number, pages[number[0]], ""
        for words in self.a_term.finditer(text):
            term = words[1].lower()
            if term in self.unused:
                self.unused.remove(term)
                yield words, "glossary", self.terms[term]


def join_texts(paragraph) -> None:
    """Make one node of neighbouring texts: the parser splits them at each end of a line, even within a citation."""
    children = []
    for are_texts, group in groupby(paragraph.children, lambda node: isinstance(node, nodes.Text)):
        together = list(group)
        children += [nodes.Text("".join(together))] if are_texts else together
    paragraph.children = []
    paragraph.extend(children)


def inside_a_link(node) -> bool:
    while node is not None and not isinstance(node, (nodes.citation, nodes.reference)):
        node = node.parent
    return node is not None


class LinkSpellings(SphinxTransform):
    """Each section of the spellings' notebooks leads to the same one of the others: their headings are the same."""

    default_priority = 400

    def apply(self, **_):
        others = {page: name for page, name in SPELLINGS.items() if page != self.env.docname}
        if self.env.docname not in SPELLINGS:
            return
        for section in self.document[0].findall(nodes.section):
            if section.parent is self.document[0]:
                line = nodes.paragraph("", "The same in ", classes=["spellings"])
                for page, name in others.items():
                    line += [nodes.reference("", name, refuri=f"{page}.html#{section['ids'][0]}"), nodes.Text(" · ")]
                line.pop()
                section.insert(1, line)


class NameBadges(SphinxTransform):
    """Replace the README's badges, which are on Colab's site, by a word: the book loads nothing from other sites."""

    default_priority = 400

    def apply(self, **_):
        for image in list(self.document.findall(nodes.image)):
            if image["uri"].startswith(COLAB):
                image.replace_self(nodes.Text("Colab"))


class LinkRepository(SphinxTransform):
    """Links to what is in the repository and not in the book lead there: no copy of it gets into the book.

    Before the repository's address is stamped they lead nowhere, so their words stay alone.
    """

    default_priority = 400

    def apply(self, **_):
        links = (addnodes.download_reference, addnodes.pending_xref)
        for link in list(self.document.findall(lambda node: isinstance(node, links) and node.get("reftype") == "myst")):
            path = self.outside(link)
            if path is not None:
                kind = "tree" if path.is_dir() else "blob"
                place = path.relative_to(series.ROOT.resolve()).as_posix()
                address = f"{GITHUB}/{publish.repository()}/{kind}/main/{place}"
                words = link.children
                link.replace_self(nodes.reference("", "", *words, refuri=address) if publish.repository() else words)

    def outside(self, link) -> Path | None:
        """The file or folder that a link means, if it is there and no page of the book."""
        target = link["reftarget"]
        if link["refdomain"] == "doc":  # without its suffix, from the top
            if target in self.env.found_docs:
                return None
            target = f"/{target}{'.ipynb' if (Path(self.env.srcdir) / f'{target}.ipynb').exists() else '.md'}"
        path = Path(self.env.relfn2path(target, self.env.docname)[1]).resolve()
        is_a_path = isinstance(link, addnodes.download_reference) or "/" in target  # a word may also name a heading
        return path if is_a_path and path.exists() and path.is_relative_to(series.ROOT.resolve()) else None


def show_formula(writer, node) -> None:
    """MathML, which browsers show by themselves: the usual renderer, MathJax, is loaded from another site."""
    block = isinstance(node, nodes.math_block)
    writer.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (show_formula, None), (show_formula, None))
    app.connect("source-read", list_coursework)
    app.connect("autodoc-process-docstring", layout)
    app.add_transform(NameBadges)
    app.add_transform(LinkRepository)
    app.add_transform(LinkSpellings)
    app.add_post_transform(LinkWords)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
