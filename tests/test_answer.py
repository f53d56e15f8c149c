"""The answer: from predictions to verdicts, and what notebook 08 shows of it."""

import html
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from companion import answer

ROOT = Path(__file__).parent.parent


def predictions(dataset, head, rate, seeds=5, size=2000, classes=2):
    """A classifier that has this share of the examples right, the same ones for every seed but for a few."""
    rng = np.random.default_rng(0)
    labels, luck = rng.integers(0, classes, size), rng.random(size)
    rows = []
    for seed in range(seeds):
        right = luck + np.random.default_rng(seed).normal(0, 0.005, size) < rate
        rows.append(pd.DataFrame({"seed": seed, "example": range(size), "label": labels}))
        rows[-1]["prediction"] = np.where(right, labels, (labels + 1) % classes)
    return pd.concat(rows).assign(dataset=dataset, head=head, regime="frozen", encoder="one")


@pytest.fixture(scope="module")
def examples():
    rows = []
    for dataset in ("a", "b", "c"):
        rows += [predictions(dataset, "cnn", 0.85), predictions(dataset, "mean", 0.80)]
        rows += [predictions(dataset, "mlp", 0.85), predictions(dataset, "max", 0.90)]
    return pd.concat(rows, ignore_index=True)


def verdicts(examples, rival):
    table = answer.comparisons(examples, ["a", "b", "c"], ("cnn", "frozen"), [(rival, "frozen")], count=400)
    return table, answer.sentence(table), answer.advice(table)


def test_a_gain_on_every_dataset(examples):
    table, said, advised = verdicts(examples, "mean")
    assert (table["difference"].between(0.04, 0.06)).all() and (table["low"] > 0.03).all()
    assert (table["significant"] == 5).all() and (table["seeds"] == 5).all()
    assert said.startswith("helps on 3 of 3 datasets (+") and advised == "add the CNN"


def test_a_loss_on_every_dataset(examples):
    _, said, advised = verdicts(examples, "max")
    assert said.startswith("hurts on 3 of 3 datasets (-") and advised == "no reason to add the CNN"


def test_no_difference_is_said_as_such(examples):
    table, said, advised = verdicts(examples, "mlp")
    assert (table["significant"] == 0).all()
    assert said == "no difference that matters on 3 of 3 datasets (+0.0 to +0.0 points)"
    assert advised == "no reason to add the CNN"


def test_a_mixed_finding_asks_the_reader_to_try(examples):
    table = pd.concat([verdicts(examples, "mean")[0].head(1), verdicts(examples, "max")[0].head(2)])
    assert answer.sentence(table).startswith("helps on 1, hurts on 2 of 3 datasets")
    assert answer.advice(table) == "try both on your own validation data"


def test_only_shared_seeds_are_compared(examples):
    """While an experiment runs, one head can have seeds that another has not yet."""
    some = examples[~(examples["head"].eq("cnn") & examples["seed"].isin([1, 3]))]
    _, cnn, mean = answer.paired(some, "a", ("cnn", "frozen"), ("mean", "frozen"))
    _, all_cnn, all_mean = answer.paired(examples, "a", ("cnn", "frozen"), ("mean", "frozen"))
    assert (cnn == all_cnn[[0, 2, 4]]).all() and (mean == all_mean[[0, 2, 4]]).all()


def test_a_pair_that_was_not_measured_has_no_row(examples):
    some = examples[~(examples["head"].eq("mean") & examples["dataset"].eq("b"))]
    rivals = [("mean", "frozen"), ("mlp", "frozen")]
    table = answer.comparisons(some, ["a", "b"], ("cnn", "frozen"), rivals, count=200)
    assert list(zip(table["dataset"], table["rival"], strict=True)) == [("a", "mean"), ("a", "mlp"), ("b", "mlp")]
    with pytest.raises(ValueError, match="no pair of cnn, frozen and one of its rivals"):
        answer.comparisons(some, ["b"], ("cnn", "frozen"), [("mean", "frozen")])


def test_scores_are_the_mean_over_seeds_within_their_interval(examples):
    table = answer.scores(examples, "a")
    right = examples[examples["dataset"] == "a"].assign(right=lambda rows: rows["label"] == rows["prediction"])
    assert table["score"].to_dict() == pytest.approx(right.groupby(["head", "regime"])["right"].mean().to_dict())
    assert ((table["low"] < table["score"]) & (table["score"] < table["high"])).all()


def test_the_series_own_results_are_found():
    cells, examples = answer.read_results()
    counted = examples.groupby(["dataset", "head", "regime"], observed=True)["seed"].nunique()
    assert counted.to_dict() == cells.groupby(["dataset", "head", "regime"]).size().to_dict()


# What notebook 08 shows, against the table, by another way than its own. -------------------------------------------


@pytest.fixture(scope="module")
def shown():
    """The texts that 08 shows, and the two files they have to follow from."""
    notebook = nbformat.read(ROOT / "notebooks" / "08_does_the_cnn_help.ipynb", as_version=4)
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts.append(output.get("text") or data.get("text/markdown") or data.get("text/html") or "")
    return texts, *answer.read_results()


def html_tables(texts) -> list[pd.DataFrame]:
    """The tables with two index columns, as strings."""
    tables = []
    for text in texts:
        rows = re.findall(r"(?s)<tr.*?>(.*?)</tr>", text)
        rows = [[html.unescape(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]
        if len(rows) > 2 and rows[0][:2] == ["", ""]:
            header = [one or other for one, other in zip(*rows[:2], strict=True)]
            tables.append(pd.DataFrame(rows[2:], columns=header))
    return tables


def test_every_accuracy_is_the_mean_of_the_files_rows(shown):
    texts, cells, _ = shown
    table = next(t for t in html_tables(texts) if "tfidf" in set(t.iloc[:, 0]))
    table = table.set_index(["head", "regime"])
    means = cells.groupby(["dataset", "head", "regime"])["accuracy"].mean() * 100
    checked = 0
    for (dataset, head, regime), mean in means.items():
        short = dataset.split("/")[-1].removesuffix("@5000")
        if short in table and (head, regime) in table.index:
            assert table.loc[(head, regime), short].split()[0] == f"{mean:.1f}"
            checked += 1
    assert checked >= 14 * 4


@pytest.mark.parametrize("number, regime", [(0, "frozen"), (1, "fine-tuned")])
def test_every_difference_and_verdict_follows_from_the_file(shown, number, regime):
    texts, cells, _ = shown
    table = [t for t in html_tables(texts) if "verdict" in t][number]
    accuracy = cells[cells["regime"] == regime].set_index(["dataset", "head", "seed"]).sort_index()["accuracy"] * 100
    names = {dataset.split("/")[-1].removesuffix("@5000"): dataset for dataset in cells["dataset"].unique()}
    assert len(table) >= 16
    for _, row in table.iterrows():
        ours, theirs = (accuracy[names[row["dataset"]], head] for head in ("cnn", row["rival"]))
        difference = (ours - theirs).mean()  # of the seeds that both have
        assert float(row["difference"]) == pytest.approx(difference, abs=0.051)
        low, high = map(float, row["95% interval"].split(" to "))
        assert low <= float(row["difference"]) <= high
        if low > 0 or high < 0:
            assert row["verdict"] in ("helps" if low > 0 else "hurts", "no difference that matters")
        else:
            assert row["verdict"] in ("cannot tell", "no difference that matters") or 0 in (low, high)


def test_the_verdict_counts_what_the_tables_say(shown):
    texts, _, _ = shown
    said = next(text for text in texts if "With a frozen encoder" in text)
    tables = [t for t in html_tables(texts) if "verdict" in t]
    for rival, what in answer.RIVALS.items():
        lines = [line for line in said.splitlines() if f"against {what}:" in line]
        assert len(lines) == 2
        for line, table in zip(lines, tables, strict=True):
            counts = table.loc[table["rival"] == rival, "verdict"].value_counts()
            assert all(f"{verdict} on {count}" in line for verdict, count in counts.items())
            assert line.endswith(f"{answer.advice(table[table['rival'] == rival])}.")
