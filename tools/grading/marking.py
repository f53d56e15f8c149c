"""One submission: put in order, run, scored by nbgrader's rules, and written down as a record."""

import nbformat
from nbgrader import utils

from tools.grading import feedback, preflight
from tools.grading.course import Assignment, Submission, is_graded
from tools.grading.execution import Ending, Kernel
from tools.grading.sandbox import MB, Limits

LARGEST = 20 * MB  # of a submitted notebook


def grade(submission: Submission, assignments: dict, limits: Limits, isolated: bool, show_hidden=False) -> dict:
    """The record of one submission. Whatever is in it, a record comes back."""
    assignment = assignments.get(submission.assignment)
    record = {"student": submission.student, "assignment": submission.assignment, "status": "graded", "cells": []}
    record |= {"notes": [], "human": [], "max_score": assignment.max_score if assignment else 0.0, "notebook": None}
    problem = submission.problem
    try:
        if not problem and submission.path.stat().st_size > LARGEST:
            problem = f"the file is larger than {LARGEST // MB} MB"
        if not problem:
            submitted = preflight.read(submission.path.read_text(encoding="utf-8"))
            notebook, actions = preflight.repair(submitted, assignment.source, assignment.released)
            record["notes"] += map(str, actions)
            record["human"] += [str(action) for action in actions if action.flag]
            with Kernel(limits, submission.path.parent, isolated) as kernel:
                endings = run_all(notebook, kernel, limits)
            mark(record, notebook, endings, kernel.cut)
            record["notebook"] = for_the_student(record, notebook, assignment, show_hidden)
    except (preflight.NotANotebook, UnicodeDecodeError) as error:
        problem = str(error) if isinstance(error, preflight.NotANotebook) else "the file is not a notebook: not UTF-8"
    except Exception as error:  # never one student's file before the others
        problem = f"grading it failed: {type(error).__name__}: {error}"[:500]
        record["status"] = "failed"
    if problem:
        status = "failed" if record["status"] == "failed" else "not graded"
        record |= {"status": status, "cells": [], "notebook": None, "notes": [problem], "human": [problem]}
    return record


def run_all(notebook, kernel: Kernel, limits: Limits) -> list[Ending | None]:
    """Run the code cells in order; tests apart, so that they are not in the notebook's history."""
    endings = []
    for cell in notebook.cells:
        if is_test(cell):
            endings.append(kernel.test(cell.source, limits.cell_seconds))
        elif cell.cell_type != "code" or not cell.source.strip():
            endings.append(None)
        else:
            endings.append(kernel.run(cell.source, limits.cell_seconds))
    return endings


def is_test(cell) -> bool:
    return utils.is_grade(cell) and not utils.is_solution(cell) and cell.cell_type == "code"


def mark(record: dict, notebook, endings: list[Ending | None], cut: bool) -> None:
    """Outputs into the notebook, scores by nbgrader's rules into the record, and what a person has to look at."""
    for cell, ending in zip(notebook.cells, endings, strict=True):
        if ending:
            cell.outputs = ending.outputs
        if ending and ending.status in ("timeout", "stopped", "tampered"):
            where = preflight.grade_id(cell) or f"the cell that begins {cell.source.strip().splitlines()[0][:60]!r}"
            record["notes"].append(f"{where}: {ending.message}")
            record["human"].append(f"{where}: {ending.message}")
            record["status"] = "stopped" if ending.status == "stopped" else record["status"]
        if not is_graded(cell):
            continue
        name, most = preflight.grade_id(cell), float(cell.metadata.nbgrader.points)
        if is_test(cell):
            score, status, message = points(cell, ending), ending.status, ending.message
        else:
            score, status, message = (None, "by hand", "") if changed(cell) else (0.0, "blank", "")
        record["cells"].append({"cell": name, "score": score, "max_score": most, "status": status, "message": message})
    if cut:
        record["notes"].append("it printed more than is kept; the rest was cut")


def changed(cell) -> bool:
    return cell.metadata.nbgrader.get("checksum") != utils.compute_checksum(cell)


def points(cell, ending: Ending) -> float:
    """nbgrader's rule (all, or the number that the cell ends with), after two of ours.

    An error counts whatever was shown before it, and a warning on stderr costs nothing.
    """
    if ending.status != "ok":
        return 0.0
    shown = [output for output in ending.outputs if output.output_type == "execute_result"]
    last = nbformat.from_dict({**cell, "outputs": shown[-1:]})
    return float(utils.determine_grade(last)[0])


def for_the_student(record: dict, notebook, assignment: Assignment, show_hidden: bool) -> dict:
    """The notebook that goes into the feedback: tests without their hidden part, nor what would tell it."""
    if show_hidden:
        return notebook
    blank = preflight.by_id(assignment.released)
    for cell in notebook.cells:
        if (name := preflight.grade_id(cell)) and not utils.is_solution(cell):
            cell.source = blank[name].source
        if is_test(cell):
            cell.outputs = []
    for cell in record["cells"]:
        if feedback.repeats(cell["message"], assignment.hidden):
            cell["message"] = feedback.WITHHELD.strip()
            record["human"].append(f"{cell['cell']}: its message repeats a hidden test")
    if leaks := feedback.withhold(notebook.cells, assignment.hidden):
        record["human"].append(f"{', '.join(leaks)}: the output repeats hidden tests; it was withheld")
    return notebook
