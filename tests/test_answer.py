"""The answer: from predictions to verdicts, and what notebook 08 shows of it."""

import numpy as np
import pandas as pd
import pytest

from companion import answer


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
    assert said.startswith("hurts on 3 of 3 datasets (-") and advised == "leave the CNN out"


def test_no_difference_is_said_as_such(examples):
    table, said, advised = verdicts(examples, "mlp")
    assert (table["significant"] == 0).all()
    assert said == "no difference that matters on 3 of 3 datasets (+0.0 to +0.0 points)"
    assert advised == "leave the CNN out"


def test_a_mixed_finding_asks_the_reader_to_try(examples):
    table = pd.concat([verdicts(examples, "mean")[0].head(1), verdicts(examples, "max")[0].head(2)])
    assert answer.sentence(table).startswith("helps on 1, hurts on 2 of 3 datasets")
    assert answer.advice(table) == "try both on your own validation data"


def test_scores_are_the_mean_over_seeds_within_their_interval(examples):
    table = answer.scores(examples, "a")
    right = examples[examples["dataset"] == "a"].assign(right=lambda rows: rows["label"] == rows["prediction"])
    assert table["score"].to_dict() == pytest.approx(right.groupby(["head", "regime"])["right"].mean().to_dict())
    assert ((table["low"] < table["score"]) & (table["score"] < table["high"])).all()


def test_the_series_own_results_are_found():
    cells, examples = answer.read_results()
    counted = examples.groupby(["dataset", "head", "regime"], observed=True)["seed"].nunique()
    assert counted.to_dict() == cells.groupby(["dataset", "head", "regime"]).size().to_dict()
