"""Stamp measured numbers into the README and the cards of the two assets, from the files that measured them.

The README's figure, notebooks/answer.svg, is drawn from the same files.

    python -m tools.cards            # after tools.pretrain and companion.study
    python -m tools.cards --check    # does every card say what the files say?

A number stands between two markers: <!-- name --> and <!-- / -->.
"""

import json
import re
import sys
from functools import cache
from pathlib import Path

import pandas as pd

from companion import display
from companion.study import answer
from companion.study.results import encoders, of_encoder, read_results
from companion.study.specs import REGIMES

ROOT = Path(__file__).parent.parent
ASSETS, RESULTS = ROOT / "companion" / "assets", ROOT / "notebooks" / "results"
PICTURE = ROOT / "notebooks" / "answer.svg"
RIVALS = {"mean": "the mean", "token_mlp": "a dense layer per token", "mlp": "an MLP of its size"}  # two are drawn
PROBED = ["cornell-movie-review-data/rotten_tomatoes", "SetFit/sst2", "CogComp/trec"]
ROWS = {
    ("tfidf", "trained"): "TF-IDF + logistic regression, no BERT",
    ("static_cnn", "trained"): "CNN on the encoder's static word vectors, trained end to end",
    ("mean", "frozen"): "frozen encoder, mean + linear",
    ("cnn", "frozen"): "frozen encoder, CNN",
    ("mean", "fine-tuned"): "fine-tuned, mean + linear",
    ("cnn", "fine-tuned"): "fine-tuned, CNN",
}


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown; its numbers as percentages with one place, counts as they are."""
    lines = [[table.index.name or "", *map(str, table.columns)], ["---"] * (len(table.columns) + 1)]
    for name, row in table.iterrows():
        lines.append([name, *(f"{value:.1%}" if value <= 1 else f"{value:.0f}" for value in row)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def probe() -> str:
    rows, _ = read_results(RESULTS, "embedded")
    table = rows.pivot_table("accuracy", ["head", "regime"], "dataset")
    names = {name: name.split("/")[1] for name in PROBED}
    table = table.loc[list(ROWS), list(names)].rename(columns=names)
    table.index = pd.Index(ROWS.values(), name="test accuracy")
    seeds = rows[rows["dataset"].isin(PROBED) & (rows["head"] == "cnn")].groupby(["dataset", "regime"]).size()
    counted = f"Means over {seeds.min()} to {seeds.max()} seeds (TF-IDF has one); intervals are in notebook 08."
    return f"{markdown(table)}\n\n{counted}"


def by_phenomenon() -> str:
    _, examples = read_results(RESULTS, "embedded")
    examples = examples[examples["dataset"] == "matinee-hard"].copy()
    lines = (ASSETS / "matinee-hard" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    phenomena = [json.loads(line)["phenomenon"] for line in lines]
    examples["right"] = examples["label"] == examples["prediction"]
    examples["phenomenon"] = [phenomena[i] for i in examples["example"]]
    columns = {key: ROWS[key] for key in (("tfidf", "trained"), ("cnn", "frozen"), ("cnn", "fine-tuned"))}
    table = examples.pivot_table("right", "phenomenon", ["head", "regime"])[list(columns)]
    table.columns = list(columns.values())
    table.insert(0, "reviews", pd.Series(phenomena).value_counts())
    overall = examples.pivot_table("right", columns=["head", "regime"]).iloc[0][list(columns)]
    table.loc["all"] = [len(phenomena), *overall]
    return markdown(table)


def pretraining() -> str:
    facts = json.loads((ASSETS / "encoder" / "pretraining.json").read_text(encoding="utf-8"))
    return (
        f"{facts['steps']:,} steps of {facts['tokens'] // facts['steps']:,} tokens, "
        f"{facts['tokens'] / 1e6:.0f} million tokens, learning rate {facts['learning_rate']}, seed {facts['seed']}; "
        f"{facts['masked_accuracy']:.1%} of the masked tokens of held-out text named exactly."
    )


@cache
def compared() -> dict[str, pd.DataFrame]:
    """By regime: all comparisons behind the verdict, with the embedded encoder."""
    _, examples = read_results(RESULTS, "embedded")
    return {regime: answer.headline(examples, regime) for regime in REGIMES}


@cache
def drawn() -> list[str]:
    """The two rivals that the figure shows: the first of RIVALS that were measured in each regime."""
    measured = [set(answer.between(table, "cnn", rival)["rival"]) for table in compared().values() for rival in RIVALS]
    everywhere = [rival for rival in RIVALS if sum(rival in found for found in measured) == len(compared())]
    return everywhere[:2]


def verdict() -> str:
    cells, examples = read_results(RESULTS)
    datasets = [dataset for dataset in answer.DATASETS if dataset in set(cells["dataset"])]
    sources = len({answer.source(dataset) for dataset in datasets})
    seeds = []
    for encoder in encoders(cells):
        rows = of_encoder(cells, encoder)
        rows = rows[rows["dataset"].isin(datasets) & rows["head"].eq("cnn")]
        for regime, counts in rows.groupby(["regime", "dataset"]).size().groupby("regime", sort=False):
            number = " to ".join(map(str, sorted({counts.min(), counts.max()})))
            seeds.append(f"{number} {regime} with `{encoder}`")
    facts = (
        f"{len(datasets)} datasets from {sources} sources; seeds of the CNN: {', '.join(seeds)}; accuracy on test; "
        "verdicts after Holm's correction; a margin of one point."
    )
    return f"{answer.verdict(examples)}\n\n{facts}"


def picture() -> str:
    """The verdict's figure, with what it shows in its alternative text."""
    return f"![{described()}](notebooks/{PICTURE.name})"


def described() -> str:
    words = []
    for regime, table in compared().items():
        for rival in drawn():
            rows = answer.between(table, "cnn", rival)
            gains = [f"{answer.DATASETS[row.dataset]} {answer.points(row.difference)}" for row in rows.itertuples()]
            words.append(f"{regime}, against {rival}: {', '.join(gains)}")
    return f"What the CNN gains, in points of accuracy with 95% intervals. {'; '.join(words)}."


def draw() -> None:
    """A row for each dataset: the CNN's gain over either rival, frozen on the left, fine-tuned on the right."""
    import matplotlib.pyplot as plt

    display.setup()
    plt.rcParams["svg.hashsalt"] = "answer"  # the same file each time
    fig, axes = plt.subplots(1, 2, figsize=(8.5, 2.9), sharex=True, sharey=True)
    for ax, (regime, table) in zip(axes, compared().items(), strict=True):
        datasets = list(dict.fromkeys(table["dataset"]))
        for shift, rival, marker, colour in zip((-0.14, 0.14), drawn(), "os", display.PALETTE, strict=False):
            rows = answer.between(table, "cnn", rival).set_index("dataset").reindex(datasets)
            places = [place + shift for place in range(len(datasets))]
            ax.hlines(places, 100 * rows["low"], 100 * rows["high"], color=colour, lw=2)
            ax.plot(100 * rows["difference"], places, marker, color=colour, label=f"minus {RIVALS[rival]}")
        ax.axvspan(-1, 1, color="#E69F00", alpha=0.2, lw=0)
        ax.axvline(0, color="black", lw=0.8)
        ax.set(title=f"CNN on the {regime} encoder", xlabel="points of accuracy")
        ax.set(yticks=range(len(datasets)), yticklabels=[answer.DATASETS[dataset] for dataset in datasets])
    axes[0].invert_yaxis()
    axes[0].legend(frameon=False, fontsize=8)
    fig.savefig(PICTURE, metadata={"Date": None, "Creator": None, "Description": described()})
    plt.close(fig)


def classifier_training() -> str:
    runs = json.loads((ASSETS / "classifier" / "training.json").read_text(encoding="utf-8"))["average"]
    lines = ["| run | from | teacher | learning rate | training texts | minutes | mean validation accuracy |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, run in zip("AB", runs, strict=True):
        facts = [name, run["encoder"], run["teacher"] or "none", run["learning_rate"], f"{run['examples']:,}"]
        facts += [round(run["seconds"] / 60), f"{run['validation']['accuracy']:.1%}"]
        lines.append(f"| {' | '.join(map(str, facts))} |")
    return "\n".join(lines)


def classifier_accuracy() -> str:
    found = json.loads((ASSETS / "classifier" / "accuracy.json").read_text(encoding="utf-8"))
    table = pd.DataFrame({"accuracy": found.values()}, index=pd.Index(found, name="test split"))
    return markdown(table)


CARDS = {
    ASSETS / "encoder" / "README.md": {"pretraining": pretraining, "probe": probe},
    ASSETS / "classifier" / "README.md": {"training": classifier_training, "accuracy": classifier_accuracy},
    ASSETS / "matinee" / "README.md": {"by phenomenon": by_phenomenon},
    ROOT / "README.md": {"verdict": verdict, "picture": picture},
}


def stamped(card: Path) -> str:
    text = card.read_text(encoding="utf-8")
    for name, numbers in CARDS[card].items():
        pattern = rf"(<!-- {name} -->\n).*?\n?(<!-- / -->)"
        shown = numbers().replace("\\", r"\\")
        text, found = re.subn(pattern, rf"\g<1>{shown}\n\g<2>", text, flags=re.DOTALL)
        assert found == 1, f"{card} has no place for '{name}'."
    return text


def main() -> None:
    stale = [card for card in CARDS if stamped(card) != card.read_text(encoding="utf-8")]
    if "--check" in sys.argv:
        raise SystemExit(f"Out of date: {', '.join(card.parent.name for card in stale)}." if stale else None)
    for card in stale:
        card.write_text(stamped(card), encoding="utf-8")
    draw()


if __name__ == "__main__":
    main()
