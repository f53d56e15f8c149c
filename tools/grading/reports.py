"""What a teacher can ask for besides grades: tables for Canvas and Moodle, anonymous names, and who wrote alike."""

import io
import itertools
import keyword
import secrets
import tokenize
from collections import Counter
from pathlib import Path

from nbgrader import utils

from tools.grading import ledger, preflight
from tools.grading.course import Assignment
from tools.grading.handed_in import Submission
from tools.grading.tables import meant, read_table, shown, table, text_in

WINDOW = 8  # tokens in a row that two answers share, or do not
FEWEST = 60  # windows: shorter answers are alike by chance
ALIKE = 0.6


# Names ------------------------------------------------------------


def aliases(into: Path, students: list[str]) -> dict[str, str]:
    """A name for each student that tells nothing, the same in every run; identities.csv keeps them."""
    path = into / "identities.csv"
    rows = read_table(path) if path.is_file() else []
    known = {shown(row.get("student") or ""): row.get("alias") for row in rows}
    for student in students:
        known[student] = known.pop(meant(student, known), None) or f"student-{secrets.token_hex(4)}"
    ledger.write(path, table(["student", "alias"], [list(pair) for pair in sorted(known.items())]))
    return known


# Other systems ------------------------------------------------------------


def write_exports(into: Path, submissions: list[Submission], totals: dict[tuple, tuple[float, float, str]]) -> None:
    """A CSV that each system imports, for the students whose files came from it.

    `totals`: (points, most points, comment) by (student, assignment), for what is wholly graded. Canvas takes a
    gradebook with a column for each assignment, Moodle a grading worksheet for each assignment.
    """
    there = [s for s in submissions if s.system and (s.student, s.assignment) in totals]
    canvas = [s for s in there if s.system == "canvas"]
    if canvas:
        names = sorted({s.assignment for s in canvas})
        head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
        points = {name: next(most for (_, n), (_, most, _) in totals.items() if n == name) for name in names}
        rows = [["Points Possible", "", "", "", "", *(f"{points[name]:g}" for name in names)]]
        for student, number in sorted({(s.student, s.number) for s in canvas}):
            found = [totals.get((student, name)) for name in names]
            person = student.removesuffix(f"_{number}")
            rows.append([person, number, "", "", "", *(f"{one[0]:g}" if one else "" for one in found)])
        ledger.write(into / "canvas.csv", table([*head, *names], rows, end="\r\n"))
    for name in sorted({s.assignment for s in there if s.system == "moodle"}):
        head = ["Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade", "Grade can be changed"]
        head += ["Last modified (submission)", "Last modified (grade)", "Feedback comments"]
        rows = []
        for one in (s for s in there if s.system == "moodle" and s.assignment == name):
            got, most, comment = totals[one.student, name]
            person = one.student.removesuffix(f"_{one.number}")
            row = [f"Participant {one.number}", person, "", "", f"{got:.2f}", f"{most:.2f}", "Yes", "-", "-", comment]
            rows.append(row)
        ledger.write(into / f"moodle-{name}.csv", table(head, rows, end="\r\n"))


# Who wrote alike ------------------------------------------------------------


def write_similarity(into: Path, submissions: list[Submission], assignments: dict[str, Assignment]) -> int:
    """similarity.csv: pairs of submissions with much code in common that the assignment does not give; how many."""
    rows = []
    for name, assignment in assignments.items():
        prints = {s.student: fingerprint(s, assignment) for s in submissions if s.assignment == name and not s.problem}
        for one, other in itertools.combinations(sorted(prints), 2):
            shared = (prints[one] & prints[other]).total()
            least = min(prints[one].total(), prints[other].total())
            if least >= FEWEST and shared / least >= ALIKE:
                rows.append([name, one, other, f"{shared / least:.2f}", str(shared)])
    rows.sort(key=lambda row: -float(row[3]))
    ledger.write(into / "similarity.csv", table(["assignment", "one", "other", "share", "windows"], rows))
    return len(rows)


def fingerprint(one: Submission, assignment: Assignment) -> Counter:
    """The windows of tokens in a submission's code that the assignment has not, whatever its names and numbers are."""
    try:
        notebook = preflight.read(text_in(one.path))
        notebook, _ = preflight.repair(notebook, assignment.source, assignment.released)
    except Exception:  # an unreadable submission: its record says why
        return Counter()
    theirs = [c.source for c in notebook.cells if c.cell_type == "code" and not utils.is_locked(c)]
    ours = [cell.source for cell in assignment.released.cells if cell.cell_type == "code"]
    return windows(theirs) - windows(ours)


def windows(sources: list[str]) -> Counter:
    words = map(shapes, sources)
    return Counter(tuple(w[at : at + WINDOW]) for w in words for at in range(len(w) - WINDOW + 1))


def shapes(source: str) -> list[str]:
    """The tokens of code, without comments and layout; names that a student chose are all the same."""
    words = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                before = words[-1] if words else ""
                words.append(token.string if before == "." else "name")
            elif token.type in (tokenize.NUMBER, tokenize.STRING):
                words.append(tokenize.tok_name[token.type])
            elif token.type == tokenize.OP or token.type == tokenize.NAME:
                words.append(token.string)
    except (tokenize.TokenError, SyntaxError, IndentationError):
        pass
    return words
