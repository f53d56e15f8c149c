"""Puts a submission in order before it is graded: every cell of the assignment is there, once, as it should be.

nbgrader knows its cells by `grade_id`. A duplicated one stops its batch, a deleted one or lost metadata scores 0
without a word. Here each is mended or flagged, and a sentence tells it.
"""

import re
import warnings
from copy import deepcopy
from dataclasses import dataclass
from difflib import SequenceMatcher

import nbformat
from nbformat import NotebookNode
from nbformat.validator import normalize
from nbgrader import utils

ALIKE = 0.5  # how alike two cells' texts must be to take one for the other
MOST_CELLS = 500
MARK = re.compile(r"(<<<<<<<|=======|>>>>>>>|\|\|\|\|\|\|\|)( |$)")  # of a merge


@dataclass(frozen=True)
class Action:
    """What was done to a cell, and whether a person should look at it."""

    cell: str
    what: str
    flag: bool = False

    def __str__(self):
        return f"{self.cell}: {self.what}" if self.cell else self.what


class NotANotebook(ValueError):
    """There is nothing that could be graded."""


def read(text: str) -> NotebookNode:
    """A submission's notebook, without outputs. NotANotebook, with one sentence, if it is none."""
    text = without_marks(text)
    if not text:
        raise NotANotebook("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about cell ids, which are mended here
            _, notebook = normalize(nbformat.reads(text, as_version=4))
            nbformat.validate(notebook)
    except Exception as error:  # whatever a broken file makes the readers say
        reason = str(error).splitlines() or [type(error).__name__]
        raise NotANotebook(f"the file is not a notebook: {reason[0][:200]}") from error
    if len(notebook.cells) > MOST_CELLS:
        raise NotANotebook(f"the notebook has more than {MOST_CELLS} cells")
    for cell in notebook.cells:
        cell.source = cell.source.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half an emoji
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def without_marks(text: str) -> str:
    """The text without what a merge left before and after it."""
    lines = text.strip("\ufeff \t\r\n").split("\n")  # and not at U+2028, which texts may hold
    while lines and MARK.match(lines[0].rstrip()):
        lines.pop(0)
    while lines and (MARK.match(lines[-1].rstrip()) or not lines[-1].strip()):
        lines.pop()
    return "\n".join(lines)


def grade_id(cell) -> str | None:
    data = cell.metadata.get("nbgrader")
    name = data.get("grade_id") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None


def by_id(notebook) -> dict[str, NotebookNode]:
    return {grade_id(cell): cell for cell in notebook.cells if grade_id(cell)}


def repair(submitted: NotebookNode, source: NotebookNode, released: NotebookNode) -> tuple[NotebookNode, list[Action]]:
    """The submission with every cell of the assignment once, tests as students have them, and what was done."""
    known, blank, actions = by_id(source), by_id(released), []
    cells = deepcopy(submitted.cells)
    for cell in cells:
        if grade_id(cell) not in known and cell.metadata.pop("nbgrader", None):
            actions.append(Action("", "a cell with grading data of its own was taken for an ordinary one"))
    cells = remove_duplicates(cells, blank, actions)
    texts = {text(cell) for cell in released.cells if not grade_id(cell)}
    attach_lost(cells, blank, texts, actions)
    for cell in cells:
        if name := grade_id(cell):
            restore(cell, known[name], blank[name], actions)
    insert_missing(cells, known, blank, actions)
    order = [grade_id(cell) for cell in cells if grade_id(cell)]
    if order != list(known):
        actions.append(Action("", "its cells are in another order than the assignment's", flag=True))
    metadata = {"kernelspec": source.metadata.get("kernelspec", {}), "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata), actions


def remove_duplicates(cells: list, blank: dict, actions: list) -> list:
    """Of cells with one id the last counts, or the last that was worked on. Others stay as ordinary cells, tests go."""
    for name in blank:
        twins = [cell for cell in cells if grade_id(cell) == name]
        changed = [cell for cell in twins if text(cell) != text(blank[name])]
        for cell in twins:
            if cell is (changed or twins)[-1]:
                continue
            if utils.is_solution(blank[name]):
                del cell.metadata["nbgrader"]
                actions.append(Action(name, "is there more than once; the last that was worked on counts", flag=True))
            else:
                cell.metadata["nbgrader"] = "remove"
                actions.append(Action(name, "was there more than once; one copy was removed"))
    return [cell for cell in cells if cell.metadata.get("nbgrader") != "remove"]


def attach_lost(cells: list, blank: dict, ordinary: set[str], actions: list) -> None:
    """Cells that lost their metadata (some editors drop it) get it back: by cell id, text, then place and likeness."""
    present = {grade_id(cell) for cell in cells}
    lost = {name: cell for name, cell in blank.items() if name not in present}
    for same in (same_cell_id, same_text):
        for name, original in list(lost.items()):
            found = [cell for cell in cells if not grade_id(cell) and same(cell, original)]
            if len(found) == 1:
                attach(found[0], lost.pop(name), actions)
    more = True
    while more:  # what is found narrows down where the others can be
        more = False
        for name, original in list(lost.items()):
            if cell := among_neighbours(cells, original, list(blank), ordinary):
                attach(cell, lost.pop(name), actions)
                more = True


def among_neighbours(cells: list, original, order: list[str], ordinary: set[str]) -> NotebookNode | None:
    """An answer has another text than the blank: the cell in its place that begins like it, is like it, or is alone."""
    near = between_neighbours(cells, grade_id(original), order)
    near = [cell for cell in near if not grade_id(cell) and cell.cell_type == original.cell_type]
    near = [cell for cell in near if cell.source.strip() and text(cell) not in ordinary]
    begins = first_line(original) or None
    best = max(near, key=lambda cell: (first_line(cell) == begins, likeness(cell, original)), default=None)
    if best is None or first_line(best) == begins or likeness(best, original) >= ALIKE:
        return best
    return best if len(near) == 1 and utils.is_solution(original) else None


def attach(cell, original, actions) -> None:
    cell.metadata["nbgrader"] = deepcopy(original.metadata["nbgrader"])
    actions.append(Action(grade_id(original), "had lost its grading data and got it back"))


def same_cell_id(cell, original) -> bool:
    ids = {cell.get("id"), cell.metadata.get("id")} - {None}
    return bool(ids & ({original.get("id"), original.metadata.get("id")} - {None}))


def same_text(cell, original) -> bool:
    return cell.cell_type == original.cell_type and text(cell) == text(original)


def text(cell) -> str:
    """The source, without what editors change at the ends of lines."""
    return "\n".join(line.rstrip() for line in cell.source.strip().splitlines())


def first_line(cell) -> str:
    """The first line that is no comment and no blank: `def convolve(x, w):`."""
    lines = [line.strip() for line in cell.source.splitlines()]
    return next((line for line in lines if line and not line.startswith(("#", "%"))), "")


def likeness(cell, original) -> float:
    return SequenceMatcher(None, text(cell)[:1000], text(original)[:1000], autojunk=False).ratio()


def between_neighbours(cells: list, name: str, order: list[str]) -> list:
    """The cells between those that come before and after this one in the assignment."""
    at, place = order.index(name), {grade_id(cell): i for i, cell in enumerate(cells)}
    before = max([place[other] for other in order[:at] if other in place], default=-1)
    after = min([place[other] for other in order[at + 1 :] if other in place], default=len(cells))
    return cells[before + 1 : after]


def restore(cell, original, blank, actions: list) -> None:
    """Grading data and kind from the source; the text, too, where it was not the student's to write."""
    name = grade_id(original)
    theirs, ours = cell.metadata["nbgrader"], original.metadata["nbgrader"]
    if any(theirs.get(key) != ours.get(key) for key in ("points", "grade", "solution", "locked")):
        actions.append(Action(name, "had other grading data; that of the assignment counts"))
    cell.metadata["nbgrader"] = deepcopy(blank.metadata["nbgrader"])
    if cell.cell_type != original.cell_type:
        actions.append(Action(name, f"was turned into {cell.cell_type}; it is {original.cell_type} again"))
        change_kind(cell, original.cell_type)
    if utils.is_locked(original) or utils.is_task(original):
        if text(cell) != text(blank):
            actions.append(Action(name, "was edited; it is as in the assignment again"))
        cell.source = blank.source


def change_kind(cell, kind: str) -> None:
    cell.cell_type = kind
    for field in ("outputs", "execution_count"):
        cell.pop(field, None)
    cell.pop("attachments", None)
    if kind == "code":
        cell.outputs, cell.execution_count = [], None


def insert_missing(cells: list, known: dict, blank: dict, actions: list) -> None:
    """Cells that are not there come back, after the one that precedes them in the assignment."""
    order = list(known)
    for at, name in enumerate(order):
        place = {grade_id(cell): i for i, cell in enumerate(cells)}
        if name in place:
            continue
        solution = utils.is_solution(known[name])
        cell = deepcopy(blank[name])
        before = max([place[other] for other in order[:at] if other in place], default=-1)
        cells.insert(before + 1, cell)
        what = (
            "the answer's cell was not there; an empty one was put in" if solution else "was not there; it was put back"
        )
        actions.append(Action(name, what, flag=solution))
