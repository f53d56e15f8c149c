"""Give every text of a file, a folder or a dataset its class and probability, and if asked the n-grams that decided.

    python -m companion.predict reviews.jsonl --model classifier --out answers --explain

INPUT is Parquet, JSON lines, CSV, TSV or plain text (a text for each line), a folder of such files, a corpus in this
package or a Hub id. OUT becomes a folder of Parquet files with the columns file, line, text, label, probability, error
(and ngrams); read it whole with `pandas.read_parquet(OUT)`. A text is read up to the model's limit (256 tokens for the
ready-made classifier). The command says how many texts are longer; notebook 11 shows how to read them whole.

Stopped at any moment and started again, the command resumes: every row of the input is in the output once.
A row that cannot be read is reported with its file and line, has an `error` in place of a label, and stops nothing.
With --ray the chunks are spread over a Ray cluster, whose machines must see INPUT, MODEL and OUT under the same names.
"""

import argparse
import sys
import time
from pathlib import Path

import filelock
from pyarrow import parquet

from companion.predict.work import Done, Job, Work

SHOWN = 20  # rows that cannot be read; the others are only counted


def parse(argv: list[str] | None):
    described: dict = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="python -m companion.predict", **described)
    parser.add_argument("input", help="a file, a folder, a corpus in this package, or a Hub id")
    parser.add_argument("--model", required=True, help="a saved BERT-CNN, 'classifier', a .keras file or an export")
    parser.add_argument("--out", required=True, help="the folder to write to, or to go on with")
    parser.add_argument("--text", default="text", metavar="COLUMN", help="the column to read (default: text)")
    parser.add_argument("--explain", action="store_true", help="write the n-grams that decided, too")
    parser.add_argument("--int8", action="store_true", help="run the 8-bit graph of an export")
    parser.add_argument("--rows", type=int, default=Job.rows, help=f"rows in a chunk (default: {Job.rows})")
    parser.add_argument("--tokenizer", help="an encoder's name, for a model that was saved without its tokenizer")
    parser.add_argument("--labels", nargs="+", help="the names of the classes, for a model that has none")
    parser.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster, or 'local' for one on this machine")
    args = parser.parse_args(argv)
    if args.rows < 1:
        parser.error("--rows takes 1 or more")
    return args


class Report:
    """Progress on stderr: a line every few seconds, and the first rows that could not be read."""

    EVERY = 5  # seconds

    def __init__(self):
        self.started = self.said = time.monotonic()
        self.rows = self.errors = self.longer = 0

    def __call__(self, done: Done) -> None:
        for error in done.errors[: max(SHOWN - self.errors, 0)]:
            print(error, file=sys.stderr)
        self.rows, self.errors = self.rows + done.rows, self.errors + len(done.errors)
        self.longer += done.longer
        if time.monotonic() - self.said >= self.EVERY:
            self.said = time.monotonic()
            self.say()

    def say(self) -> None:
        rate = self.rows / max(time.monotonic() - self.started, 1e-9)
        unread = f", {self.errors:,} could not be read" if self.errors else ""
        longer = f", {self.longer:,} longer than the model reads" if self.longer else ""
        print(f"{self.rows:,} rows, {rate:,.0f} rows/s{unread}{longer}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    labels, out = args.labels and tuple(args.labels), Path(args.out)
    job = Job(args.input, args.model, args.out, args.text, args.explain, args.int8, args.rows, args.tokenizer, labels)
    if Path(args.input).is_dir() and Path(args.input).resolve() in [out.resolve(), *out.resolve().parents]:
        raise ValueError(f"'{out}' is within the input: the next run would read its own output.")
    work, report = Work(job), Report()
    try:
        with filelock.FileLock(out / ".lock", timeout=0):
            work.parts.clean()
            if args.ray:
                from companion.predict import cluster

                finished = cluster.spread(job, work.todo(), args.ray)
            else:
                finished = map(work, work.todo())
            for done in finished:
                report(done)
            report.say()
    except filelock.Timeout:
        raise ValueError(f"Another process writes to '{out}'; wait for it, or give another folder.") from None
    rows = sum(parquet.read_metadata(path).num_rows for path in sorted(out.glob("part-*.parquet")))
    print(f"{rows:,} rows in {out}")


if __name__ == "__main__":
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        main()
    except ValueError as error:
        raise SystemExit(str(error)) from None
