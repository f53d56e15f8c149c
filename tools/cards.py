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

import matplotlib.pyplot as plt
import pandas as pd

from companion import display
from companion.study import answer
from companion.study.pictures import forest
from companion.study.results import encoders, of_encoder, read_results
from companion.study.specs import REGIMES
from tools.classifier import runs

ROOT = Path(__file__).parent.parent
ASSETS, RESULTS = ROOT / "companion" / "assets", ROOT / "notebooks" / "results"
PICTURE = ROOT / "notebooks" / "answer.svg"
DRAWN = {"mean": "CNN minus mean", "token_mlp": "CNN minus token_mlp"}
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
        shown = ["" if pd.isna(value) else f"{value:.1%}" if value <= 1 else f"{value:.0f}" for value in row]
        lines.append([name, *shown])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def probe() -> str:
    rows, _ = read_results(RESULTS, "embedded")
    table = rows.pivot_table("accuracy", ["head", "regime"], "dataset")
    names = {name: name.split("/")[1] for name in PROBED}
    table = table.reindex(list(ROWS), columns=list(names)).rename(columns=names)
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
    """By encoder and regime: the CNN's comparisons behind the verdict."""
    tables, (_, examples) = {}, read_results(RESULTS)
    for encoder in encoders(examples):
        rows = of_encoder(examples, encoder)
        for regime in sorted(set(REGIMES) & set(rows["regime"]), key=REGIMES.index):
            table = answer.headline(rows, regime)
            tables[f"{regime} {encoder}"] = table[table["head"].eq("cnn")]
    return tables


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
    for title, table in compared().items():
        for rival, label in DRAWN.items():
            rows = table[table["rival"].eq(rival)]
            gains = [f"{answer.DATASETS[row.dataset]} {answer.points(row.difference)}" for row in rows.itertuples()]
            words += [f"{title}, {label}: {', '.join(gains)}"] if gains else []
    return f"Differences in accuracy, in points with 95% intervals. {'; '.join(words)}."


def draw() -> None:
    """A row for each dataset, a panel for each encoder and regime: the CNN minus its rivals."""
    display.setup()
    plt.rcParams["svg.hashsalt"] = "answer"  # the same file each time
    fig = forest(compared(), DRAWN, answer.DATASETS, apart=["CogComp/trec"])
    fig.savefig(PICTURE, metadata={"Date": None, "Creator": None, "Description": described()})
    plt.close(fig)


def classifier_training() -> str:
    facts = json.loads((ASSETS / "classifier" / "training.json").read_text(encoding="utf-8"))
    lines = ["| run | from | teacher | learning rate | training texts | minutes | mean validation accuracy |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, run in zip("ABCD", runs(facts), strict=True):
        row = [name, run["encoder"], run["teacher"] or "none", run["learning_rate"], f"{run['examples']:,}"]
        row += [round(run["seconds"] / 60), f"{run['validation']['accuracy']:.2%}"]
        lines.append(f"| {' | '.join(map(str, row))} |")
    for name, of, found in (("EARLIER", "A, B", facts["average"][0]), ("OUT", "EARLIER, C, D", facts)):
        lines.append(f"| {name} | average of {of} | | | | | {found['validation']['accuracy']:.2%} |")
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
