"""The stored results of the tasks: every score follows from what each test example contributed."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from companion.study.results import find_results
from companion.study.statistics import VERDICTS
from companion.study.tasks import compare_heads
from companion.tasks.tagging import span_scores

FILES = sorted((find_results() / "tasks").glob("*.csv"))
SUMMARY = ["precision_at_k", "rouge1", "rouge2", "rougeL"]


def recomputed(task: str, examples: np.ndarray) -> dict[str, float]:
    if task == "documents":
        label, predicted = examples[:, 0], examples[:, 1]
        macro = f1_score(label, predicted, labels=np.unique(label), average="macro")
        return {"accuracy": np.mean(label == predicted), "macro_f1": macro}
    if task == "tagging":
        return span_scores(examples)
    return dict(zip(SUMMARY, examples.mean(axis=0), strict=True))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scores_follow_from_the_examples(file):
    rows = pd.read_csv(file, keep_default_na=False)
    assert len(rows) and set(rows["task"]) == {file.stem}
    for row in rows.to_dict("records"):
        for name, value in recomputed(row["task"], np.array(json.loads(row["examples"]))).items():
            assert row[name] == pytest.approx(value, abs=1e-4), (row["head"], row["seed"], name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_heads_that_are_compared_share_seeds_folds_and_test_examples(file):
    rows = pd.read_csv(file, keep_default_na=False)
    assert not rows.duplicated(["dataset", "head", "regime", "seed", "fold", "encoder", "settings"]).any()
    assert not rows["dataset"].str.startswith("/").any() and rows["encoder"].map(lambda n: "/" not in n).all()
    trained = rows[rows["regime"].ne("untrained")]
    for _, same in trained.groupby(["dataset", "encoder", "regime"]):
        assert same["settings"].nunique() == 1
        folds = same.groupby("head")[["seed", "fold"]].apply(lambda own: sorted(map(tuple, own.to_numpy().tolist())))
        assert all(own == folds.iloc[0] for own in folds)
    for _, same in rows.groupby(["dataset", "fold"]):
        assert same["examples"].map(lambda text: len(json.loads(text))).nunique() == 1
    if file.stem == "documents":
        labels = rows["examples"].map(lambda text: tuple(label for label, *_ in json.loads(text)))
        assert labels.groupby([rows["dataset"], rows["fold"]]).nunique().eq(1).all()


def test_there_are_results_of_documents_and_of_summaries():
    assert {"documents", "summaries"} <= {file.stem for file in FILES}
    for file in FILES:
        assert re.fullmatch(r"[a-z]+", file.stem)


def test_heads_are_compared_over_folds_and_seeds_that_both_have(tmp_path):
    """Two folds of two examples. The second head lacks the third seed, and is right once where the first is wrong."""
    rows = []
    for head, seeds in (("max", 3), ("mean", 2)):
        for seed in range(seeds):
            for fold in (1, 0):  # in whatever order they were stored
                examples = [[0, 0, 9], [1, int(head == "mean" or fold == 0), 9]]
                cell = {"dataset": "d", "encoder": "e 1", "regime": "frozen", "head": head, "seed": seed, "fold": fold}
                cell["settings"] = '{"folds": 2}'
                rows.append(cell | {"examples": json.dumps(examples)})
    rows += [cell | {"seed": 3, "fold": 0, "examples": "[[0, 0, 9]]"} for cell in rows[:1]]  # a seed cut short
    pd.DataFrame(rows).to_csv(tmp_path / "documents.csv", index=False)
    (row,) = compare_heads("documents", [("max", "mean"), ("max", "absent")], tmp_path).to_dict("records")
    assert (row["encoder"], row["seeds"], row["difference"]) == ("e", 2, pytest.approx(-0.25))
    assert row["low"] < row["difference"] < row["high"] and row["verdict"] == "inconclusive"


def results_of(*cells):
    """Rows of documents.csv from (head, settings, number of examples, fold), trained ones of one encoder and seed."""
    for head, settings, count, fold in cells:
        cell = {"dataset": "d", "encoder": "e 1", "regime": "untrained" if head == "tfidf" else "frozen", "seed": 0}
        examples = json.dumps([[0, i % 2, 9] for i in range(count)])
        yield cell | {"head": head, "fold": fold, "settings": json.dumps(settings), "examples": examples}


MIXED = {
    "several settings": ([("max", {"epochs": 20}, 9, 0), ("mean", {"epochs": 1}, 9, 0)], "by several settings"),
    "other examples": ([("max", {}, 9, 0), ("mean", {}, 1, 0)], "results of max and mean on different examples of d"),
    "one fold of two": ([("max", {"folds": 2}, 9, 0), ("mean", {"folds": 2}, 9, 0)], None),
    "an untrained head on more texts": ([("max", {"texts": 5}, 9, 0), ("tfidf", {"texts": 50}, 9, 0)], None),
    "an untrained head on all texts": ([("max", {"texts": 5}, 9, 0), ("tfidf", {}, 9, 0)], None),
    "an untrained head without a fold": (
        [("max", {"folds": 2}, 9, 0), ("max", {"folds": 2}, 9, 1), ("tfidf", {"folds": 2}, 9, 0)],
        None,
    ),
}


@pytest.mark.parametrize("cells, message", MIXED.values(), ids=MIXED)
def test_what_does_not_belong_together_is_not_compared(tmp_path, cells, message):
    pd.DataFrame(results_of(*cells)).to_csv(tmp_path / "documents.csv", index=False)
    pairs = [("max", "mean"), ("max", "tfidf")]
    if message:
        with pytest.raises(ValueError, match=message):
            compare_heads("documents", pairs, tmp_path)
    else:
        assert compare_heads("documents", pairs, tmp_path).empty


def test_the_verdicts_of_a_table_are_corrected_together():
    table = compare_heads("tagging", [("cnn", "linear"), ("cnn", "cnn_1"), ("cnn_1", "linear")])
    alone = compare_heads("tagging", [("cnn", "cnn_1")])
    shared = table[table["rival"].eq("cnn_1")].reset_index(drop=True)
    assert shared["difference"].equals(alone["difference"])
    assert set(table["verdict"]) <= set(VERDICTS)


def test_two_heads_that_need_no_training_are_compared():
    row, *_ = compare_heads("summaries", [("centrality", "lead")]).to_dict("records")
    assert row["seeds"] == 1 and row["low"] < row["difference"] < row["high"]
