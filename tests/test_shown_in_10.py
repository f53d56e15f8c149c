"""What notebook 10 shows of the challenge set, recomputed from the committed results."""

import io
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from companion.study import results
from companion.study.challenge import load_challenge

ROOT = Path(__file__).parent.parent
RT = "cornell-movie-review-data/rotten_tomatoes"

CLASSIFIERS = {
    "TF-IDF": ("embedded", "tfidf", "trained"),
    "CNN, static vectors": ("embedded", "static_cnn", "trained"),
    "CNN, frozen encoder": ("embedded", "cnn", "frozen"),
    "CNN, fine-tuned encoder": ("embedded", "cnn", "fine-tuned"),
    "reference: CNN, fine-tuned MiniLM": ("all-MiniLM-L6-v2", "cnn", "fine-tuned"),
}


@pytest.fixture(scope="module")
def scored():
    """The tables that 10 shows, by their first column; the challenge set; the log-odds of each classifier (S, N)."""
    notebook, tables = nbformat.read(ROOT / "notebooks" / "10_where_it_breaks.ipynb", as_version=4), {}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        plain = output.get("data", {}).get("text/plain", "")
        if "text/html" in output.get("data", {}) and "\t" in plain:
            table = pd.read_csv(io.StringIO(plain), sep="\t", index_col=0)
            tables[table.index.name] = table
    odds = {}
    for name, (encoder, *classifier) in CLASSIFIERS.items():
        rows = results.read_log_odds(encoder=encoder).loc[(RT, *classifier)]
        odds[name] = np.stack(rows["challenge"].to_numpy()).astype(float)
    return tables, load_challenge(), odds


def test_every_seed_of_the_challenge_set_is_counted(scored):
    tables, _, odds = scored
    assert tables["classifier"]["seeds"].to_dict() == {name: len(rows) for name, rows in odds.items()}


def test_accuracies_are_those_on_rotten_tomatoes(scored):
    tables, _, _ = scored
    shown = tables["classifier"]["accuracy on rotten_tomatoes"]
    assert set(shown.index) == set(CLASSIFIERS)
    for name, (encoder, *classifier) in CLASSIFIERS.items():
        cells = results.read_results(encoder=encoder)[0].set_index(["dataset", "head", "regime", "seed"])["accuracy"]
        seeds = results.read_log_odds(encoder=encoder).loc[(RT, *classifier)].index  # those that are tested here
        assert shown[name] == f"{cells.sort_index().loc[(RT, *classifier)].loc[seeds].mean():.1%}"


@pytest.mark.parametrize(
    "title, measure",
    [
        ("failures in %, chance 50", lambda labels, odds: ((odds > 0) != labels).mean()),
        ("AUC in %, chance 50", roc_auc_score),
    ],
)
def test_rates_on_the_challenge_set_follow_from_the_file(scored, title, measure):
    tables, cases, odds = scored
    texts = cases[cases["kind"].eq("minimum functionality") & cases["role"].eq("text")]
    table = tables[title]
    assert {"vocabulary", "simple negation", "but and although", "modality"} <= set(table.index)
    for capability, row in table.iterrows():
        labels = texts.loc[texts["capability"].eq(capability), "label"]
        for name, rows in odds.items():
            found = np.mean([measure(labels.eq(1), seed[labels.index]) for seed in rows])
            assert row[name] == pytest.approx(100 * found, abs=0.51)


@pytest.mark.parametrize("name", ["CNN, fine-tuned encoder", "reference: CNN, fine-tuned MiniLM"])
def test_shifts_between_twins_follow_from_the_file(scored, name):
    tables, cases, odds = scored
    twin = cases["role"].shift(-1).eq("twin")  # the rows whose twin is the next one
    for label, side in enumerate(("praise", "blame")):
        for capability in ("simple negation", "negation of a whole clause"):
            places = np.flatnonzero(twin & cases["capability"].eq(capability) & cases["label"].eq(label))
            moved = (2 * label - 1) * (odds[name][:, places] - odds[name][:, places + 1])
            right = (odds[name][:, places + 1] > 0) != bool(label)  # the twin has the other label
            row = tables[name].loc[f"{capability}: {side}"]
            assert int(row["twins wrong"].rstrip("%")) == pytest.approx(100 * (1 - right.mean()), abs=0.51)
            assert int(row["moved the right way"].rstrip("%")) == pytest.approx(100 * (moved > 0).mean(), abs=0.51)
            assert float(row["shift"].split()[0]) == pytest.approx(moved[right].mean(), abs=0.011)
