"""What grading leaves behind: records, tables, pages of feedback, and the scores that people give by hand."""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.grading import feedback
from tools.grading.tables import meant, read_table, shown, table

MANUAL = ["student", "assignment", "cell", "max_score", "manual_score", "comment", "version"]


def write(path: Path, text: str) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(text.encode("utf-8", "replace"))  # what a submission printed may not be text at all
    os.replace(new, path)


def record_path(into: Path, student: str, file: str) -> Path:
    return into / "records" / ("_" if student == "?" else student) / f"{file}.json"


def read_record(path: Path, key: str) -> dict | None:
    """What an earlier run found out, if nothing has changed since."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if record.get("key") == key else None


def automatic(record: dict) -> float:
    return sum(cell["score"] or 0 for cell in record["cells"])


# Scores given by hand ------------------------------------------------------------


def read_manual(into: Path) -> dict[tuple, dict]:
    """The rows of manual.csv by student, assignment and cell.

    Raises ValueError, with one sentence, for a score that is none.
    """
    path = into / "manual.csv"
    if not path.is_file():
        return {}
    manual = {}
    for line, row in enumerate(read_table(path), 2):
        if missing := [name for name in MANUAL[:5] if row.get(name) is None]:
            raise ValueError(
                f"{path}, line {line}: there is no {', '.join(missing)}; the columns are {','.join(MANUAL)}."
            )
        row = {name: shown(row.get(name) or "") for name in MANUAL}
        row["manual_score"], row["max_score"] = (
            row[n].strip().replace(",", ".") for n in ("manual_score", "max_score")
        )
        try:
            good = not row["manual_score"] or 0 <= float(row["manual_score"]) <= float(row["max_score"])
        except ValueError:
            good = False
        if not good:
            right = f"a number from 0 to {row['max_score']}"
            raise ValueError(f"{path}, line {line}: manual_score is '{row['manual_score']}', and {right} is right.")
        manual[row["student"], row["assignment"], row["cell"]] = row
    return manual


def matched(manual: dict, records: list[dict]) -> tuple[dict, list[tuple]]:
    """The rows under the students' names as they are, and those that belong to nobody."""
    students = {record["student"] for record in records}
    cells = {(record["student"], record["assignment"], c["cell"]) for record in records for c in record["cells"]}
    found, lost = {}, []
    for (student, *rest), row in manual.items():
        key = (meant(student, students), *rest)
        if key not in cells and row["manual_score"]:
            lost.append(key)
        if not found.get(key, {}).get("manual_score") or row["manual_score"]:
            found[key] = {**row, "student": key[0]}
    return found, lost


def with_new_rows(manual: dict, records: list[dict]) -> dict:
    """A row for each cell that waits for a person. None is ever taken away."""
    for record in records:
        for cell in record["cells"]:
            key = record["student"], record["assignment"], cell["cell"]
            if cell["score"] is None and key not in manual:
                manual[key] = dict(zip(MANUAL, [*key, f"{cell['max_score']:g}", "", "", ""], strict=True))
            if key in manual and manual[key]["manual_score"].strip() and not manual[key]["version"]:
                manual[key]["version"] = record["version"]
    return manual


def points(record: dict, manual: dict) -> dict[str, tuple[float | None, str]]:
    """For each graded cell its score, a person's before ours, and the person's comment."""
    found = {}
    for cell in record["cells"]:
        row = manual.get((record["student"], record["assignment"], cell["cell"]), {})
        given = row.get("manual_score", "").strip()
        found[cell["cell"]] = (float(given) if given else cell["score"], row.get("comment", ""))
    return found


def reasons(record: dict, manual: dict) -> list[str]:
    """Why a person has to look at it."""
    found = list(record["human"])
    for cell in record["cells"]:
        row = manual.get((record["student"], record["assignment"], cell["cell"]), {})
        if points(record, manual)[cell["cell"]][0] is None:
            found.append(f"{cell['cell']}: to be graded by hand, up to {cell['max_score']:g} points")
        elif row.get("version") and row["version"] != record["version"]:
            found.append(f"{cell['cell']}: the score in manual.csv was given to an earlier version")
    return found


# Late ------------------------------------------------------------


def read_late(path: Path) -> dict[tuple[str, str], float]:
    """Days by student and assignment. Raises ValueError, with one sentence, for a row that is none."""
    late = {}
    try:
        rows = read_table(path)
    except OSError:
        raise ValueError(f"{path} cannot be read.") from None
    for line, row in enumerate(rows, 2):
        try:
            key, days = (shown(row["student"].strip()), row["assignment"].strip()), float(row["days"].replace(",", "."))
        except (KeyError, AttributeError, ValueError):
            days = -1
        if not 0 <= days < 10_000:
            raise ValueError(f"{path}, line {line}: the columns are student,assignment,days, and days a number from 0.")
        late[key] = days
    return late


@dataclass(frozen=True)
class Late:
    """The late policy: a share of the points goes for each day, or part of one."""

    days: dict[tuple[str, str], float]
    options: Any  # late: was there a table of days?; late_percent

    def deducted(self, record: dict, total: float) -> float:
        days = self.days.get((record["student"], record["assignment"]), 0)
        return min(total, total * math.ceil(days) * self.options.late_percent / 100)

    def unknown(self, record: dict) -> bool:
        """Did the other system say that it came late, and nobody by how much?"""
        asked = bool(self.options.late) and bool(record.get("late"))
        return asked and (record["student"], record["assignment"]) not in self.days


# Tables and pages ------------------------------------------------------------


def write_tables(into: Path, records: list[dict], isolated: bool, complete: bool, late: Late) -> tuple:
    """Write them all. How many submissions, and scores that belong to nobody, need a person; and the totals."""
    manual, lost = matched(read_manual(into), records)
    manual = with_new_rows(manual, records)
    grades, cells, human, totals = [], [], [], {}
    there = {(record["student"], record["assignment"]) for record in records}
    strange = [f"- **manual.csv**: there is no {', '.join(key)}; its score counts for nobody" for key in lost]
    strange += [
        f"- **the table of days**: there is no {', '.join(key)}; its days count for nobody"
        for key, days in late.days.items()
        if days and key not in there
    ]
    human += strange if complete else []  # of an interrupted run not all are known
    for record in records:
        scores, why = points(record, manual), reasons(record, manual)
        total = sum(score or 0 for score, _ in scores.values())
        deducted = late.deducted(record, total)
        why += ["it was handed in late, and the table of days does not say by how much"] if late.unknown(record) else []
        status = record["status"] if record["status"] != "graded" or None not in dict(scores.values()) else "waiting"
        who = [record["student"], record["assignment"]]
        points_now = [f"{total - deducted:g}", f"{record['max_score']:g}", f"{deducted:g}"]
        grades.append([*who, *points_now, status, "yes" if why else "no", "; ".join(why)])
        if None not in dict(scores.values()) and record["status"] != "failed":
            totals[tuple(who)] = total - deducted, record["max_score"], "; ".join(c for _, c in scores.values() if c)
        for cell in record["cells"]:
            score = scores[cell["cell"]][0]
            shown = "" if score is None else f"{score:g}"
            cells.append([*who, cell["cell"], shown, f"{cell['max_score']:g}", cell["status"], cell["message"]])
        human += [f"- **{record['student']}**, {record['file']}: {reason}" for reason in why]
        write_page(into, record, scores, deducted)
    head = ["student", "assignment", "score", "max_score", "deducted", "status", "needs_human", "why"]
    write(into / "grades.csv", table(head, grades))
    write(
        into / "cells.csv", table(["student", "assignment", "cell", "score", "max_score", "outcome", "message"], cells)
    )
    write(into / "manual.csv", table(MANUAL, [list(row.values()) for _, row in sorted(manual.items())]))
    intro = [] if complete else ["Grading was interrupted: this is not all.\n"]
    intro += [] if isolated else ["The notebooks ran with the network on and could read files: see grading.md.\n"]
    write(into / "needs_a_human.md", "\n".join(["# Needs a human\n", *intro, *(human or ["Nothing does."])]) + "\n")
    return len(strange) * complete + sum(row[6] == "yes" for row in grades), totals


def write_page(into: Path, record: dict, scores: dict, deducted: float) -> None:
    """The feedback, unless it is there as it would be."""
    path = (
        into / "feedback" / record_path(into, record["student"], record["file"]).parent.name / f"{record['file']}.html"
    )
    path = path.with_name(path.name.replace(".ipynb.html", ".html"))
    state = hashlib.sha256(json.dumps([record["key"], scores, deducted]).encode()).hexdigest()[:16]
    try:
        if path.read_text(encoding="utf-8").endswith(f"<!-- {state} -->\n"):
            return
    except OSError:
        pass
    try:
        with feedback.within(feedback.PATIENCE):
            page = feedback.page(record, scores, deducted)
    except Exception as error:  # the converter met something that it cannot show
        notes = [*record["notes"], f"The notebook cannot be shown ({type(error).__name__})."]
        page = feedback.page(record | {"notebook": None, "notes": notes}, scores, deducted)
    write(path, page + f"<!-- {state} -->\n")
