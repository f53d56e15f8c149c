"""Grades a folder of submissions, SUBMISSIONS/STUDENT/ASSIGNMENT.ipynb; each can hurt only itself.

python -m tools.grade SUBMISSIONS [--into grades]

Writes grades.csv, cells.csv, manual.csv (for scores given by hand), needs_a_human.md, and for each submission a record
and a page of feedback. A second run grades what has changed. See notebooks/coursework/grading.md.
"""

import argparse
import dataclasses
import io
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbgrader

from tools.grading import course, handed_in, ledger, marking, reports, sandbox, tables

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "notebooks" / "coursework" / "source"
CODE = [
    Path(__file__),
    *sorted(Path(sandbox.__file__).parent.rglob("*.py")),
    *sorted((ROOT / "companion").rglob("*.py")),
]

NAME_WIDTH = 60


@dataclasses.dataclass(frozen=True)
class Options:
    """How to grade, and what to write besides grades."""

    isolated: bool
    again: bool = False
    show_hidden: bool = False
    jobs: int = 1
    roster: Path | None = None
    late: Path | None = None
    late_percent: float = 10
    anonymous: bool = False
    similarity: bool = False


def grade_all(folder: Path, into: Path, source: Path, limits: sandbox.Limits, options: Options) -> tuple[list, int]:
    """Grade what has changed, and write the tables; also when interrupted, with what there is.

    Returns the records, and how many need a person.
    """
    assignments = course.load_assignments(source)
    submissions = handed_in.find_submissions(folder, list(assignments), options.roster)
    ledger.read_manual(into)  # a mistake in it is told before work begins
    late = ledger.read_late(options.late) if options.late else {}
    people = {s.student: s.student for s in submissions}
    if options.anonymous:
        people = reports.aliases(into, list(people))
    code = course.digest(*(path.read_bytes() for path in CODE), nbgrader.__version__.encode())
    setting = f"{code} {limits} {options.isolated} {options.show_hidden}".encode()

    def named(who: str) -> str:
        who = tables.meant(who, people)
        return people.get(who, who)

    def record_of(submission: handed_in.Submission) -> tuple[dict, str]:
        """The record, and how long it took."""
        known, student = assignments.get(submission.assignment), people[submission.student]
        file = f"{submission.assignment}{submission.path.suffix}" if options.anonymous else submission.file
        of, started = handed_in.version(submission), time.monotonic()
        key = course.digest(of.encode(), (known.digest if known else "").encode(), setting)
        path = ledger.record_path(into, student, handed_in.short(file))
        if not options.again and (record := ledger.read_record(path, key)):
            return record, "as before"
        record = marking.grade(submission, assignments, limits, options.isolated, options.show_hidden)
        if sandbox.interrupted.is_set():
            raise KeyboardInterrupt  # it was ended before it could end
        failed = record["status"] == "failed"  # on our side: the next run tries again
        record |= {"key": "" if failed else key, "version": of, "file": handed_in.short(file), "student": student}
        ledger.write(path, json.dumps(record, indent=1))
        return record, f"{time.monotonic() - started:.1f} s"

    records = {}
    width = min(NAME_WIDTH, max(len(f"{people[s.student]} {s.assignment}") for s in submissions))
    try:
        for number, (at, (record, took)) in enumerate(side_by_side(record_of, submissions, options.jobs), 1):
            records[at] = record
            score = f"{ledger.automatic(record):g}/{record['max_score']:g}"
            human = f"  a person should look: {record['human'][0]}" if record["human"] else ""
            name = f"{record['student']} {record['assignment']}"
            name = name if len(name) <= width else f"{name[: width - 3]}..."
            print(f"[{number:3}/{len(submissions)}] {name:{width}}  {score:>8}  {took:>9}{human}"[:200], flush=True)
    finally:
        done = [records[at] for at in sorted(records)]
        penalties = ledger.Late({(named(who), name): days for (who, name), days in late.items()}, options)
        human, totals = ledger.write_tables(into, done, options.isolated, len(done) == len(submissions), penalties)
    real = {
        (who, name): totals[people[who], name] for who in people for _, name in totals if (people[who], name) in totals
    }
    reports.write_exports(into, submissions, real)
    if options.similarity:
        alike = reports.write_similarity(
            into, [dataclasses.replace(s, student=people[s.student]) for s in submissions], assignments
        )
        print(f"{alike} pairs have much code in common: {into / 'similarity.csv'}.")
    return done, human


def side_by_side(work, items: list, jobs: int):
    """(number, work(item)) of each, as they come, so many at a time."""
    if jobs == 1:
        yield from ((at, work(item)) for at, item in enumerate(items))
        return
    pool = ThreadPoolExecutor(jobs)
    futures = {pool.submit(work, item): at for at, item in enumerate(items)}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        sandbox.interrupted.set()  # what runs ends
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        sandbox.interrupted.clear()


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", type=Path, metavar="SUBMISSIONS")
    parser.add_argument("--into", type=Path, default=Path("grades"), help="where results go (default: grades)")
    parser.add_argument("--source", type=Path, default=SOURCE, help="the assignments, with solutions")
    parser.add_argument("--again", action="store_true", help="grade all, changed or not")
    parser.add_argument("--show-hidden", action="store_true", help="feedback for teachers: hidden tests, too")
    parser.add_argument("--jobs", type=int, default=1, help="submissions at a time; 0: as many as there are cores")
    parser.add_argument("--roster", type=Path, help="CSV with a column student: everybody gets a row")
    parser.add_argument("--late", type=Path, help="CSV with student, assignment, days: points are deducted")
    parser.add_argument("--late-percent", type=float, default=10, help="of the points, for each day (default: 10)")
    parser.add_argument("--anonymous", action="store_true", help="names that tell nothing; identities.csv knows them")
    parser.add_argument("--similarity", action="store_true", help="similarity.csv: who wrote alike")
    choices = ("auto", "on", "off")
    parser.add_argument("--isolation", choices=choices, default="auto", help="on: do not grade where it cannot be had")
    for field in dataclasses.fields(sandbox.Limits):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, help=f"(default: {field.default})")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no student's name stops a run on a narrow terminal
            stream.reconfigure(errors="replace")
    limits = sandbox.Limits(**{f.name: getattr(args, f.name) for f in dataclasses.fields(sandbox.Limits)})
    if bad := [name for name, value in dataclasses.asdict(limits).items() if value <= 0]:
        raise SystemExit(f"Limits are above 0: {', '.join(bad)}.")
    why_not = "it was switched off" if args.isolation == "off" else sandbox.missing()
    if why_not and args.isolation == "on":
        raise SystemExit(f"Nothing was graded, as isolation cannot be had here: {why_not}.")
    if args.jobs < 0 or not 0 <= args.late_percent <= 100:
        raise SystemExit("--jobs is at least 0, and --late-percent from 0 to 100.")
    args.isolated, args.jobs = not why_not, args.jobs or os.cpu_count() or 1
    options = Options(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Options)})
    print(f"Isolation (no network, no other files): {'no: ' + why_not if why_not else 'yes'}.", flush=True)
    try:
        records, human = grade_all(args.submissions, args.into, args.source, limits, options)
    except KeyboardInterrupt:
        print(f"Interrupted; what is graded is in {args.into}, and the same command goes on from there.")
        return 130
    except ValueError as error:
        raise SystemExit(str(error)) from None
    print(f"{len(records)} submissions in {args.into / 'grades.csv'}.")
    print(f"{human} need a person: {args.into / 'needs_a_human.md'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
