"""What notebook 12 shows of the real data, recomputed from the committed results."""

import json
import re
from html import unescape
from itertools import accumulate
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from companion.study.results import find_results
from companion.study.statistics import estimate, span_f1
from companion.tasks.tagging import span_scores

ROOT = Path(__file__).parent.parent
HEADS = {"linear": "linear", "cnn_1": "1", "token_mlp": "1, 900 filters", "cnn": "1, 3, 5"}


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    rows = pd.read_csv(find_results() / "tasks" / "tagging.csv")
    return rows.assign(counts=rows["examples"].map(json.loads), encoder=rows["encoder"].str.split().str[0])


@pytest.fixture(scope="module")
def tables() -> list[list[list[str]]]:
    """The tables that 12 shows below its heading "On real data", as rows of cells; an index is in every row."""
    notebook = nbformat.read(ROOT / "notebooks" / "12_names_in_a_text.ipynb", as_version=4)
    reached = accumulate("## On real data" in cell.source for cell in notebook.cells)
    found = []
    for cell, real in zip(notebook.cells, reached, strict=True):
        for page in (o.get("data", {}).get("text/html", "") for o in cell.get("outputs", [])):
            if real and "<table" in page:
                found.append(rows_of(page))
    return found


def rows_of(page: str) -> list[list[str]]:
    """The body's rows of pandas' HTML; what one index cell says of several rows is in each of them."""
    rows, open_cells = [], {}
    for row in re.findall(r"<tr>(.*?)</tr>", page.split("<tbody>")[1], re.S):
        cells = re.findall(r'<t[hd](?: rowspan="(\d+)")?[^>]*>(.*?)</t[hd]>', row, re.S)
        texts, cells, column = [], iter(cells), 0
        while True:
            if open_cells.get(column, (0, ""))[0] > 0:
                left, text = open_cells[column]
                open_cells[column] = (left - 1, text)
            else:
                cell = next(cells, None)
                if cell is None:
                    break
                text = unescape(cell[1])
                open_cells[column] = (int(cell[0] or 1) - 1, text)
            texts.append(text)
            column += 1
        rows.append(texts)
    return rows


def counts_of(results, dataset, encoder, regime, head) -> np.ndarray:
    """(S, N, 3) of the seeds that all heads have."""
    group = results[results[["dataset", "encoder", "regime"]].eq([dataset, encoder, regime]).all(axis=1)]
    seeds = set.intersection(*(set(group.loc[group["head"].eq(name), "seed"]) for name in group["head"].unique()))
    own = group[group["head"].eq(head) & group["seed"].isin(seeds)].sort_values("seed")
    return np.array(own["counts"].tolist())


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", text)]


def test_the_scores_in_the_file_follow_from_its_examples(results):
    for _, row in results.iterrows():
        assert span_scores(row["counts"]) == pytest.approx({name: row[name] for name in ("precision", "recall", "f1")})
        assert all(right <= min(predicted, gold) for right, predicted, gold in row["counts"])
    for _, group in results.groupby("dataset"):
        assert len({json.dumps([gold for *_, gold in counts]) for counts in group["counts"]}) == 1  # the same texts
    assert not results.duplicated(["dataset", "head", "regime", "seed", "encoder"]).any()


def test_every_cell_of_the_file_is_shown(results, tables):
    shown = {tuple(row[:3]) for row in tables[0]}
    assert shown == set(results[["dataset", "encoder", "regime"]].itertuples(index=False, name=None))


def test_scores_and_intervals_are_those_of_the_file(results, tables):
    for dataset, encoder, regime, seeds, *cells in tables[0]:
        for head, cell in zip(HEADS, cells, strict=True):
            counts = counts_of(results, dataset, encoder, regime, head)
            assert len(counts) == int(seeds) or (head, regime, cell) == ("token_mlp", "fine-tuned", "")
            if not len(counts):
                continue
            mean = np.mean([span_scores(seed)["f1"] for seed in counts])
            expected = [mean, *estimate(span_f1(counts)).interval()]
            assert numbers(cell) == pytest.approx([100 * value for value in expected], abs=0.051)


def test_differences_and_verdicts_are_those_of_the_file(results, tables):
    heads, found = {windows: head for head, windows in HEADS.items()}, []
    for *cell, pair, difference, interval, _ in tables[1]:
        ours, theirs = (counts_of(results, *cell, heads[name]) for name in pair.split(" against "))
        found.append(estimate(span_f1(ours) - span_f1(theirs)))
        expected = [found[-1].mean, *found[-1].interval()]
        assert numbers(f"{difference} {interval}") == pytest.approx([100 * v for v in expected], abs=0.051)
    assert len(found) == 2 * len(tables[0]) + 2 * sum(regime == "frozen" for _, _, regime, *_ in tables[0])
    corrected = multipletests([one.p_value() for one in found], method="holm")[0]
    for one, significant, (*_, verdict) in zip(found, corrected, tables[1], strict=True):
        assert (verdict in ("better", "worse")) == significant
        assert not significant or (verdict == "better") == (one.mean > 0)


def test_the_distance_of_the_encoders_is_that_of_the_file(results, tables):
    heads = {windows: head for head, windows in HEADS.items()}
    for dataset, regime, windows, cell in tables[2]:
        large, small = (
            counts_of(results, dataset, encoder, regime, heads[windows]) for encoder in ("all-MiniLM-L6-v2", "embedded")
        )
        seeds = min(len(large), len(small))
        found = estimate(span_f1(large[:seeds]) - span_f1(small[:seeds]))
        expected = [found.mean, *found.interval()]
        assert numbers(cell) == pytest.approx([100 * v for v in expected], abs=0.051)


def test_pieces_per_word_are_those_of_the_file(results, tables):
    columns = sorted(results["encoder"].unique())
    for dataset, *cells in tables[3]:
        for encoder, cell in zip(columns, cells, strict=True):
            found = results[results["dataset"].eq(dataset) & results["encoder"].eq(encoder)]["pieces_per_word"]
            assert found.nunique() == 1 and float(cell) == pytest.approx(found.iloc[0], abs=0.0051)
