"""One submission: put in order, run, scored by nbgrader's rules, and written down as a record."""

import nbformat
from nbgrader import utils

from tools.grading import preflight
from tools.grading.asking import Referee, bound_by, package_without, used_by
from tools.grading.course import Assignment, is_graded, is_test
from tools.grading.execution import Ending, Kernel
from tools.grading.handed_in import MISSING, Submission
from tools.grading.sandbox import Limits
from tools.grading.tables import text_in


def grade(submission: Submission, assignments: dict, limits: Limits, isolated: bool, show_hidden=False) -> dict:
    """The record of one submission. Whatever is in it, a record comes back."""
    assignment = assignments.get(submission.assignment)
    record: dict = {"student": submission.student, "assignment": submission.assignment, "status": "graded", "cells": []}
    record |= {"system": submission.system, "number": submission.number, "late": submission.late}
    record |= {"notes": [], "human": [], "max_score": assignment.max_score if assignment else 0.0, "notebook": None}
    problem = submission.problem
    try:
        if not problem:
            submitted = preflight.read(text_in(submission.path))
            notebook, actions = preflight.repair(submitted, assignment.source, assignment.released)
            record["notes"] += map(str, actions)
            record["human"] += [str(action) for action in actions if action.flag]
            files = submission.files
            with Referee(assignment, limits) as referee:
                with Kernel(limits, files, isolated) as kernel:
                    shown = show(notebook, kernel, limits)
                package = package_without(bound_by(assignment), used_by(assignment))
                with Kernel(limits, files, isolated, package, shown=False) as asked:
                    judged = judge(notebook, asked, referee, limits)
            mark(record, notebook, shown, judged, kernel.cut)
            if asked.gone and not kernel.gone:
                record["human"].append(f"when its answers were graded, the notebook's process {asked.gone}")
            record["notebook"] = for_teachers(notebook, assignment, judged) if show_hidden else notebook
    except preflight.NotANotebook as error:
        problem = str(error)
    except Exception as error:  # never one student's file before the others
        problem = f"grading it failed: {type(error).__name__}: {error}"[:500]
        record["status"] = "failed"
    if problem:
        status = record["status"] if record["status"] == "failed" else "missing" if problem == MISSING else "not graded"
        record |= {"status": status, "notebook": None, "notes": [problem], "human": [problem]}
        record["cells"] = no_points(assignment, status) if assignment else []
        record["human"] = [] if status == "missing" else [problem]
    record["human"] += [submission.notice] if submission.notice else []
    return record


def no_points(assignment: Assignment, status: str) -> list[dict]:
    """A row for each graded cell of a notebook that was not graded, so that a person can give its points."""
    graded = [cell for cell in assignment.source.cells if is_graded(cell)]
    rows = [{"cell": preflight.grade_id(cell), "max_score": float(cell.metadata.nbgrader.points)} for cell in graded]
    return [{**row, "score": 0.0, "status": status, "message": ""} for row in rows]


def show(notebook, kernel: Kernel, limits: Limits) -> list[Ending | None]:
    """Run the code cells in order, as the student has them, for what they put out. No hidden test comes here."""
    cells = [cell if cell.cell_type == "code" and cell.source.strip() else None for cell in notebook.cells]
    return [cell and kernel.run(cell.source, limits.cell_seconds) for cell in cells]


def judge(notebook, kernel: Kernel, referee: Referee, limits: Limits) -> dict[str, Ending]:
    """Run the code cells once more and, where a test stands, have it ask for values; how each test ended.

    Nothing that is put out here is seen by anybody: this process gets the hidden tests' inputs.
    """
    tests = [preflight.grade_id(cell) for cell in notebook.cells if is_test(cell)]
    endings = {}
    if tests:
        referee.start(kernel.place, max(120, limits.cell_seconds))
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.strip() and len(endings) < len(tests):
            if not (utils.is_grade(cell) and utils.is_solution(cell)):  # a person reads it
                kernel.run(cell.source, limits.cell_seconds)
        if is_test(cell):
            endings[preflight.grade_id(cell)] = referee.test(preflight.grade_id(cell), kernel, limits.cell_seconds)
    return endings


def mark(record: dict, notebook, shown: list[Ending | None], judged: dict[str, Ending], cut: bool) -> None:
    """Outputs into the notebook, scores by nbgrader's rules into the record, and what a person has to look at."""
    for cell, ending in zip(notebook.cells, shown, strict=True):
        name = preflight.grade_id(cell)
        if ending:
            cell.outputs = ending.outputs
        for told in [judged[name]] if is_test(cell) else [ending] if ending else []:
            if told.status in ("timeout", "stopped"):
                where = name or f"the cell that begins {cell.source.strip().splitlines()[0][:60]!r}"
                record["notes"].append(f"{where}: {told.message}")
                record["human"].append(f"{where}: {told.message}")
                record["status"] = "stopped" if told.status == "stopped" else record["status"]
        if not is_graded(cell):
            continue
        most = float(cell.metadata.nbgrader.points)
        if is_test(cell):
            score, status, message = points(cell, judged[name]), judged[name].status, judged[name].message
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


def for_teachers(notebook, assignment: Assignment, judged: dict[str, Ending]):
    """The notebook with the tests whole, and what they printed."""
    whole = preflight.by_id(assignment.source)
    for cell in filter(is_test, notebook.cells):
        name = preflight.grade_id(cell)
        cell.source, cell.outputs = whole[name].source, judged[name].outputs
    return notebook
