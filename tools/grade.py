"""Grades a folder of submissions, SUBMISSIONS/STUDENT/ASSIGNMENT.ipynb, one at a time; each can hurt only itself.

python -m tools.grade SUBMISSIONS [--into grades]

Writes grades.csv, cells.csv, manual.csv (for scores given by hand), needs_a_human.md, and for each submission a record
and a page of feedback. A second run grades what has changed. See notebooks/coursework/grading.md.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import nbgrader

from tools.grading import course, ledger, marking, sandbox

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "notebooks" / "coursework" / "source"
CODE = [
    Path(__file__),
    *sorted(Path(sandbox.__file__).parent.glob("*.py")),
    *sorted((ROOT / "companion").rglob("*.py")),
]


def grade_all(
    folder: Path, into: Path, source: Path, limits: sandbox.Limits, isolated: bool, again=False, show_hidden=False
):
    """Grade what has changed, and write the tables; also when interrupted, with what there is."""
    assignments = course.load_assignments(source)
    submissions = course.find_submissions(folder, list(assignments))
    ledger.read_manual(into)  # a mistake in it is told before work begins
    code = course.digest(*(path.read_bytes() for path in CODE), nbgrader.__version__.encode())
    setting = f"{code} {limits} {isolated} {show_hidden}".encode()
    records, width = [], max(len(f"{s.student} {s.assignment}") for s in submissions)
    try:
        for number, submission in enumerate(submissions, 1):
            known = assignments.get(submission.assignment)
            of = course.version(submission)
            key = course.digest(of.encode(), (known.digest if known else "").encode(), setting)
            path = ledger.record_path(into, submission.student, submission.path.name)
            record, started = None if again else ledger.read_record(path, key), time.monotonic()
            took = "as before"
            if record is None:
                record = marking.grade(submission, assignments, limits, isolated, show_hidden)
                failed = record["status"] == "failed"  # on our side: the next run tries again
                record |= {"key": "" if failed else key, "version": of, "file": submission.path.name}
                ledger.write(path, json.dumps(record, indent=1))
                took = f"{time.monotonic() - started:.1f} s"
            records.append(record)
            score = f"{ledger.automatic(record):g}/{record['max_score']:g}"
            human = f"  a person should look: {record['human'][0]}" if record["human"] else ""
            name = f"{submission.student} {submission.assignment}"
            print(f"[{number:3}/{len(submissions)}] {name:{width}}  {score:>8}  {took:>9}{human}"[:200], flush=True)
    finally:
        complete = len(records) == len(submissions)
        ledger.write_tables(into, records, isolated, complete)
    return records


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", type=Path, metavar="SUBMISSIONS")
    parser.add_argument("--into", type=Path, default=Path("grades"), help="where results go (default: grades)")
    parser.add_argument("--source", type=Path, default=SOURCE, help="the assignments, with solutions")
    parser.add_argument("--again", action="store_true", help="grade all, changed or not")
    parser.add_argument("--show-hidden", action="store_true", help="feedback for teachers: hidden tests, too")
    choices = ("auto", "on", "off")
    parser.add_argument("--isolation", choices=choices, default="auto", help="on: do not grade where it cannot be had")
    for field in dataclasses.fields(sandbox.Limits):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, help=f"(default: {field.default})")
    args = parser.parse_args(argv)
    limits = sandbox.Limits(**{f.name: getattr(args, f.name) for f in dataclasses.fields(sandbox.Limits)})
    if bad := [name for name, value in dataclasses.asdict(limits).items() if value <= 0]:
        raise SystemExit(f"Limits are above 0: {', '.join(bad)}.")
    why_not = "it was switched off" if args.isolation == "off" else sandbox.missing()
    if why_not and args.isolation == "on":
        raise SystemExit(f"Nothing was graded, as isolation cannot be had here: {why_not}.")
    print(f"Isolation (no network, no other files): {'no: ' + why_not if why_not else 'yes'}.", flush=True)
    try:
        records = grade_all(args.submissions, args.into, args.source, limits, not why_not, args.again, args.show_hidden)
    except KeyboardInterrupt:
        print(f"Interrupted; what is graded is in {args.into}, and the same command goes on from there.")
        return 130
    human = sum(bool(record["human"]) for record in records)
    print(f"{len(records)} submissions in {args.into / 'grades.csv'}.")
    print(f"{human} need a person: {args.into / 'needs_a_human.md'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
