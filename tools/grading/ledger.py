"""What grading leaves behind: records, tables, pages of feedback, and the scores that people give by hand."""

import csv
import hashlib
import io
import json
import os
from pathlib import Path

from tools.grading import feedback

MANUAL = ["student", "assignment", "cell", "max_score", "manual_score", "comment", "version"]
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


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
    """The rows of manual.csv by student, assignment and cell. SystemExit, with one sentence, if a score is none."""
    path = into / "manual.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    manual = {}
    for line, row in enumerate(rows, 2):
        if missing := [name for name in MANUAL[:5] if row.get(name) is None]:
            raise SystemExit(
                f"{path}, line {line}: there is no {', '.join(missing)}; the columns are {','.join(MANUAL)}."
            )
        try:
            good = not row["manual_score"].strip() or 0 <= float(row["manual_score"]) <= float(row["max_score"])
        except ValueError:
            good = False
        if not good:
            right = f"a number from 0 to {row['max_score']}"
            raise SystemExit(f"{path}, line {line}: manual_score is '{row['manual_score']}', and {right} is right.")
        manual[row["student"], row["assignment"], row["cell"]] = {name: row.get(name) or "" for name in MANUAL}
    return manual


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


# Tables and pages ------------------------------------------------------------


def write_tables(into: Path, records: list[dict], isolated: bool, complete: bool) -> None:
    manual = with_new_rows(read_manual(into), records)
    grades, cells, human = [], [], []
    for record in records:
        scores, why = points(record, manual), reasons(record, manual)
        total = sum(score or 0 for score, _ in scores.values())
        status = record["status"] if record["status"] != "graded" or None not in dict(scores.values()) else "waiting"
        who = [record["student"], record["assignment"]]
        grades.append([*who, f"{total:g}", f"{record['max_score']:g}", status, "yes" if why else "no", "; ".join(why)])
        for cell in record["cells"]:
            score = scores[cell["cell"]][0]
            shown = "" if score is None else f"{score:g}"
            cells.append([*who, cell["cell"], shown, f"{cell['max_score']:g}", cell["status"], cell["message"]])
        human += [f"- **{record['student']}**, {record['file']}: {reason}" for reason in why]
        write_page(into, record, scores)
    head = ["student", "assignment", "score", "max_score", "status", "needs_human", "why"]
    write(into / "grades.csv", table(head, grades))
    write(
        into / "cells.csv", table(["student", "assignment", "cell", "score", "max_score", "outcome", "message"], cells)
    )
    write(into / "manual.csv", table(MANUAL, [list(row.values()) for _, row in sorted(manual.items())]))
    intro = [] if complete else ["Grading was interrupted: this is not all.\n"]
    intro += [] if isolated else ["The notebooks ran with the network on and could read files: see grading.md.\n"]
    write(into / "needs_a_human.md", "\n".join(["# Needs a human\n", *intro, *(human or ["Nothing does."])]) + "\n")


def table(head: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow([f"'{value}" if value.startswith(FORMULA) else value for value in row])
    return text.getvalue()


def write_page(into: Path, record: dict, scores: dict) -> None:
    """The feedback, unless it is there as it would be."""
    path = (
        into / "feedback" / record_path(into, record["student"], record["file"]).parent.name / f"{record['file']}.html"
    )
    path = path.with_name(path.name.replace(".ipynb.html", ".html"))
    state = hashlib.sha256(json.dumps([record["key"], scores]).encode()).hexdigest()[:16]
    try:
        if path.read_text(encoding="utf-8").endswith(f"<!-- {state} -->\n"):
            return
    except OSError:
        pass
    try:
        page = feedback.page(record, scores)
    except Exception as error:  # the converter met something that it cannot show
        notes = [*record["notes"], f"The notebook cannot be shown ({type(error).__name__})."]
        page = feedback.page(record | {"notebook": None, "notes": notes}, scores)
    write(path, page + f"<!-- {state} -->\n")
