"""What a student gets back: a page with the score, the outcome of each test, what was mended, and the notebook as run.

The page holds all it needs, and lets no script run: what a submission prints is somebody else's text.
"""

import contextlib
import html
import re
import signal
from copy import deepcopy

import bleach
import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

PATIENCE = 30  # seconds for a page: some outputs would keep the converter busy for hours
OUTCOMES = {
    "ok": "passed",
    "error": "did not pass",
    "timeout": "took too long",
    "stopped": "ended the process",
    "not run": "was not run",
    "by hand": "for a person to grade",
    "blank": "no answer",
    "not graded": "the notebook was not graded",
    "missing": "nothing was handed in",
    "failed": "grading it failed",
}
TAGS = bleach.ALLOWED_TAGS | set(
    "h1 h2 h3 h4 h5 h6 p br hr div span pre img table thead tbody tr th td sub sup del dl dt dd".split()
)
ATTRIBUTES = {"*": ["class", "id", "title"], "a": ["href"], "img": ["src", "alt"]}
STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .3rem .8rem; border: 1px solid #bbb; text-align: left; }
pre { overflow-x: auto; padding: .6rem; background: #f5f5f5; white-space: pre-wrap; overflow-wrap: anywhere; }
img { max-width: 100%; }
.jp-OutputArea pre, .output_area pre { background: none; border-left: 3px solid #bbb; }
.anchor-link { display: none; }
td.outcome { overflow-wrap: anywhere; white-space: pre-line; }
.note { border-left: 4px solid #0072b2; padding: .2rem .8rem; background: #eef5fa; }
"""
COLOURS = HtmlFormatter(style="bw").get_style_defs(".highlight")


@contextlib.contextmanager
def within(seconds: float):
    """Raise TimeoutError after this many seconds, on systems and threads that have alarms."""

    def stop(*_):
        raise TimeoutError

    try:
        before = signal.signal(signal.SIGALRM, stop)
    except (AttributeError, ValueError):  # neither Windows nor threads have alarms
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again each second, in case the converter catches the error
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def page(record: dict, points: dict[str, tuple[float | None, str]], deducted: float = 0) -> str:
    """The feedback as HTML. `points`: for each graded cell its score (None: not yet graded) and a person's comment."""
    title = html.escape(f"{record['assignment']}: {record['student']}")
    score = sum(score or 0 for score, _ in points.values()) - deducted
    waiting = " so far; a person has still to grade a part" if any(s is None for s, _ in points.values()) else ""
    waiting += f"; {deducted:g} points were deducted, as it came late" if deducted else ""
    rows = "".join(row(cell, *points[cell["cell"]]) for cell in record["cells"])
    table = f"<table><tr><th>part</th><th>points</th><th>outcome</th></tr>{rows}</table>" if rows else ""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in record["notes"])
    notes = f'<div class="note"><p>About your notebook:</p><ul>{notes}</ul></div>' if notes else ""
    csp = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{csp}">\n'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{COLOURS}</style></head>\n'
        f"<body><h1>{title}</h1>\n<p><strong>{score:g} of {record['max_score']:g} points</strong>{waiting}.</p>\n"
        f"{table}\n{notes}\n{body(record['notebook'])}</body></html>\n"
    )


def row(cell: dict, score: float | None, comment: str) -> str:
    said = ": ".join(filter(None, [OUTCOMES[cell["status"]], re.sub(r"\n\s*\n", "\n", cell["message"])]))
    said = "\n".join(filter(None, [said, comment]))
    points = f"{'?' if score is None else format(score, 'g')} / {cell['max_score']:g}"
    return f'<tr><td>{html.escape(cell["cell"])}</td><td>{points}</td><td class="outcome">{html.escape(said)}</td></tr>'


def body(notebook: dict | None) -> str:
    """The notebook as HTML: text, tables and pictures, whatever else a submission put into it."""
    if notebook is None:
        return ""
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    text, _ = exporter.from_notebook_node(nbformat.from_dict(deepcopy(notebook)))
    return bleach.clean(text, tags=TAGS, attributes=ATTRIBUTES, protocols={"http", "https", "data"}, strip=True)
