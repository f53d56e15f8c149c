"""How the web book shows cells: tables aligned by what is in them, and definitions that can be linked to."""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

SHOWN = re.compile(r"# (companion/[\w/]+)\.py: ([\w.]+)\n")
ROW, CELL = re.compile(r"(?s)<tr.*?</tr>"), re.compile(r"(?s)<(t[dh])([^>]*)>(.*?)</t[dh]>")


def align(html: str) -> str:
    """The tables of an output, with columns of words marked for the style sheet and one row of names."""
    return re.sub(r"(?s)<table.*?</table>", lambda found: align_table(found[0]), html)


def align_table(table: str) -> str:
    table = re.sub(r' style="text-align: \w+;?"', "", table)  # what is in a column decides
    head, mark, body = table.partition("<tbody>")
    head = one_row_of_names(head)
    rows = [[cell[3] for cell in CELL.finditer(row) if cell[1] == "td"] for row in ROW.findall(body)]
    width = max(map(len, rows), default=0)
    columns = [list(filter(str.strip, column)) for column in zip(*(r for r in rows if len(r) == width), strict=True)]
    wordy = [sum(map(is_words, column)) > len(column) / 2 for column in columns]
    return mark_cells(head, wordy, "th") + mark + mark_cells(body, wordy, "td")


def is_words(text: str) -> bool:
    """Whether a cell holds words; numbers with a unit, and intervals "1 to 2", are numbers."""
    return bool(re.search(r"[^\W\d_]{3,}", re.sub(r"<[^>]*>", "", text))) and "NaN" not in text


def mark_cells(rows: str, wordy: list[bool], kind: str) -> str:
    """Give the class "words" to cells in such columns, counted from the right: on the left the index has its own."""

    def mark_row(found: re.Match) -> str:
        cells = [cell for cell in CELL.finditer(found[0]) if cell[1] == kind]
        marked = {cell.start() for cell, words in zip(reversed(cells), reversed(wordy), strict=False) if words}
        return CELL.sub(
            lambda c: f'<{c[1]} class="words"{c[2]}>{c[3]}</{c[1]}>' if c.start() in marked else c[0], found[0]
        )

    return ROW.sub(mark_row, rows)


def one_row_of_names(head: str) -> str:
    """pandas names the columns in one row and the index in the next, and each leaves the other's cells empty."""
    rows = ROW.findall(head)
    if len(rows) != 2 or "span=" in head:
        return head
    pairs = list(zip(*(list(CELL.finditer(row)) for row in rows), strict=False))
    if not pairs or any(one[3].strip() and other[3].strip() for one, other in pairs):
        return head
    names = "".join(f"<th>{one[3].strip() or other[3].strip()}</th>" for one, other in pairs)
    return head.replace(rows[0], f"<tr>{names}</tr>").replace(rows[1], "")


def name_of(source: str) -> str:
    """The dotted name of the definition that a cell shows, or ""."""
    found = SHOWN.match(source)
    return f"{found[1].replace('/', '.')}.{found[2]}" if found else ""


class AnchorDefinitions(SphinxTransform):
    """A cell that shows a definition of the package can be linked to by the definition's name."""

    default_priority = 400

    def apply(self, **_):
        for block in self.document.findall(nodes.literal_block):
            if name := name_of(block.astext()):
                block["ids"].append(name)


class LinkDefinitions(SphinxPostTransform):
    """Under such a cell: a link to itself, and one to the definition in the package's reference."""

    default_priority = 20

    def run(self, **_):
        python = self.env.get_domain("py")
        for block in list(self.document.findall(nodes.literal_block)):
            name = name_of(block.astext())
            if name not in block["ids"] or not name:
                continue
            line = nodes.paragraph("", "", nodes.reference("", "Link to this definition", refid=name, internal=True))
            line["classes"].append("definition")
            if found := python.objects.get(name):
                words = nodes.Text("in the reference of the package")
                line += nodes.Text(" · ")
                line += make_refnode(self.app.builder, self.env.docname, found.docname, found.node_id, words)
            block.parent.insert(block.parent.index(block) + 1, line)


def setup(app):
    app.add_transform(AnchorDefinitions)
    app.add_post_transform(LinkDefinitions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
