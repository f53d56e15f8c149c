"""What notebooks show: figures with alternative text, text with its deciding words lit up, code side by side."""

import base64
import html
import importlib.util
import inspect
import io
import itertools
import logging
import re
import textwrap

import numpy as np
from scipy.special import softmax

PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # Okabe & Ito 2008

LIBRARIES = "torch transformers datasets accelerate tensorflow keras keras_hub sklearn matplotlib".split()


def check_environment() -> None:
    """Say in plain words which library is missing, and what to do about it."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    advice = f"Missing: {', '.join(missing)}. Run `make lab` in the project's folder, or the Colab cell above on Colab."
    print(advice if missing else "Everything the series needs is here.")


def setup() -> None:
    """Colour-blind-safe figures, and libraries that keep quiet. For the first cell of a notebook."""
    import datasets
    import matplotlib.pyplot as plt
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    plt.rcParams.update({"axes.prop_cycle": plt.cycler(color=PALETTE), "figure.constrained_layout.use": True})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "savefig.facecolor": "white"})


def show(fig, alt: str) -> None:
    """Show a figure as a PNG of few colours, and so few bytes, that carries its alternative text, and close it."""
    import matplotlib.pyplot as plt
    from IPython.display import display
    from PIL import Image

    drawn, buffer = io.BytesIO(), io.BytesIO()
    fig.savefig(drawn, format="png")
    plt.close(fig)
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    image = base64.b64encode(buffer.getvalue()).decode()
    display({"image/png": image, "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)


class Progress:
    """A bar that grows with each call of `step`. It only adds to what is printed: once stored, it stays the same."""

    WIDTH = 30

    def __init__(self, steps: int, title: str):
        self.done, self.steps = 0, steps
        print(f"{title:20}", end="", flush=True)

    def step(self, *_, **__) -> None:
        """One step is done. Callbacks may give what they like."""
        before, self.done = self.done * self.WIDTH // self.steps, self.done + 1
        grown = self.done * self.WIDTH // self.steps - before
        print("█" * grown, end=f" {self.steps} steps\n" if self.done == self.steps else "", flush=True)


def lit_html(text: str, spans, title: str = "", rest=()) -> str:
    """A text with some of its n-grams highlighted, and below it one row per n-gram with its weight, as HTML.

    spans: (start, end, weight) in characters of the text. Each n-gram has a number, which stands in brackets where the
    text is highlighted: a stretch that lies in two n-grams bears both numbers, and each weight is listed once.
    Positive weights are orange with a solid underline, negative ones blue with a dotted one.
    rest: further (name, weight) rows for the list, such as the bias.
    """
    strongest = max((abs(weight) for *_, weight in spans), default=0) or 1
    cuts = sorted({0, len(text), *(place for start, end, _ in spans for place in (start, end))})
    parts = []
    for i, j in itertools.pairwise(cuts):
        piece = html.escape(text[i:j])
        inside = [(number, weight) for number, (start, end, weight) in enumerate(spans, 1) if start <= i < end]
        if inside and piece.strip():
            _, weight = max(inside, key=lambda one: abs(one[1]))
            colour, line = ("213, 94, 0", "solid") if weight > 0 else ("0, 114, 178", "dotted")
            style = f"background: rgba({colour}, {0.15 + 0.5 * abs(weight) / strongest:.2f}); border-bottom: 2px {line}"
            numbers = ", ".join(str(number) for number, _ in inside)
            piece = f'<mark style="{style}; color: inherit">[{piece} <sub>{numbers}</sub>]</mark>'
        parts.append(piece)
    listed = [(f"{number} {text[start:end]}", weight) for number, (start, end, weight) in enumerate(spans, 1)]
    number = 'style="text-align: right; font-variant-numeric: tabular-nums; padding: 0 .7em"'
    rows = "".join(
        f'<tr><td {number}>{weight:+.2f}</td><td style="text-align: left">{html.escape(name)}</td></tr>'
        for name, weight in [*listed, *rest]
    )
    return f"<p><b>{html.escape(title)}</b> {''.join(parts)}</p>" + (f"<table>{rows}</table>" if rows else "")


def light_up(text: str, spans, title: str = "", rest=()) -> None:
    """Show a text with some of its n-grams highlighted and their weights listed: `lit_html`."""
    from IPython.display import display

    page = lit_html(text, spans, title, rest)
    plain = html.unescape(re.sub(r"<.+?>", "", re.sub(r"</td><td.*?>", " ", page.replace("<tr>", "\n"))))
    display({"text/html": page, "text/plain": plain.strip()}, raw=True)


def show_names(text: str, spans, types, title: str = "") -> None:
    """Show a text with its names highlighted, each followed by its type.

    spans: (type, start, end) in characters, none inside another. types: all types, in the order of their colours.
    """
    from IPython.display import display

    parts, place = [], 0
    for kind, start, end in sorted(spans, key=lambda span: span[1]):
        red, green, blue = (int(PALETTE[types.index(kind) % len(PALETTE)][i : i + 2], 16) for i in (1, 3, 5))
        style = f"background: rgba({red}, {green}, {blue}, 0.25); border-bottom: 2px solid; color: inherit"
        parts.append(html.escape(text[place:start]))
        parts.append(f'<mark style="{style}">[{html.escape(text[start:end])} <sub>{html.escape(kind)}</sub>]</mark>')
        place = end
    page = f"<p><b>{html.escape(title)}</b> {''.join(parts)}{html.escape(text[place:])}</p>"
    display({"text/html": page, "text/plain": html.unescape(re.sub(r"<.+?>", "", page)).strip()}, raw=True)


def decision_rows(explanation, label: int, against: int, top: int = 5):
    """(the strongest n-grams as spans, the other rows) of why a text got `label` and not `against`.

    Rounded to two digits the weights add up to the last row, the difference of the two logits: each n-gram counts once,
    and everything that is not listed by itself is in "all other windows".
    """
    spans = [(start, end, round(value, 2)) for start, end, value in explanation.ngrams(label, against)[:top]]
    bias = round(float(explanation.bias[label] - explanation.bias[against]), 2) + 0.0
    total = round(float(explanation.logits[label] - explanation.logits[against]), 2)
    others = round(total - bias - sum(value for *_, value in spans), 2) + 0.0  # no -0.00
    return spans, [("all other windows", others), ("bias", bias), ("together: the difference of the two logits", total)]


def show_decision(explanation, names, against: int | None = None, top: int = 5) -> None:
    """Show the predicted class, its probability, and the n-grams that decided, with what is left and the bias.

    names: the classes' names. against: the class to compare with, by default the runner-up.
    """
    order = np.argsort(-explanation.logits, kind="stable")
    label, against = int(order[0]), int(order[1] if against is None else against)
    probability = softmax(explanation.logits)[label]
    spans, rest = decision_rows(explanation, label, against, top)
    light_up(explanation.text, spans, f"{names[label]} ({probability:.0%}):", rest)


def lit_figure(text: str, spans, width: int = 100):
    """A text in a figure, with a bar under each of some spans, as long as its words: for print and slides.

    spans: (start, end, weight) in characters of the text. Bars of positive weight are orange, those of negative
    weight blue and hatched; each bears its weight. Texts longer than `width` characters go on below.
    """
    import matplotlib.pyplot as plt

    lines = textwrap.wrap(text, width, drop_whitespace=False) or [""]
    starts = [sum(map(len, lines[:i])) for i in range(len(lines))]
    strongest = max((abs(weight) for *_, weight in spans), default=0) or 1
    fig, ax = plt.subplots()
    y = 0.0
    for start, line in zip(starts, lines, strict=True):
        for place, letter in enumerate(line):
            ax.text(place + 0.5, y, letter, ha="center", va="bottom", family="monospace", fontsize=9)
        for first, last, weight in sorted(spans):
            left, right = max(first - start, 0), min(last - start, len(line))
            if left >= right:
                continue
            y -= 1
            colour, hatch = (PALETTE[1], None) if weight > 0 else (PALETTE[0], "////")
            look = {"color": colour, "alpha": 0.25 + 0.75 * abs(weight) / strongest, "edgecolor": "white"}
            ax.barh(y + 0.4, right - left, left=left, height=0.7, hatch=hatch, **look)
            ax.text(right + 0.6, y + 0.4, f"{weight:+.2f}", va="center", fontsize=8)
        y -= 1.8
    longest = max(map(len, lines))
    ax.set(xlim=(0, longest + 6), ylim=(y + 1.2, 1.4))
    ax.axis("off")
    fig.set_size_inches(0.1 * (longest + 6), 0.28 * (1.4 - y))
    return fig


def side_by_side(**definitions) -> None:
    """Show the source of functions or classes in columns, each under its name (underscores read as spaces)."""
    from IPython.display import display

    sources = {name.replace("_", " "): textwrap.dedent(inspect.getsource(d)) for name, d in definitions.items()}
    pre = '<pre style="overflow-x: auto; white-space: pre; word-break: normal">{}</pre>'  # no line is broken
    column = f'<div style="flex: 1 1 22em; min-width: 0"><b>{{}}</b>{pre}</div>'
    columns = "".join(column.format(name, html.escape(source)) for name, source in sources.items())
    plain = "\n\n".join(f"# {name}\n{source}" for name, source in sources.items())
    page = f'<div style="display: flex; flex-wrap: wrap; gap: 1em">{columns}</div>'
    display({"text/html": page, "text/plain": plain}, raw=True)
