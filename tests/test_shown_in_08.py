"""What notebook 08 shows, recomputed from the committed results by another way than the notebook's own."""

import html
import itertools
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from companion.study import answer, results
from companion.study.specs import HEADS, REGIMES
from companion.study.statistics import VERDICTS

ROOT = Path(__file__).parent.parent
MR = "cornell-movie-review-data/rotten_tomatoes"
LONG = {short: dataset for dataset, short in answer.DATASETS.items()}
ENCODERS = ("embedded", "all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def texts():
    """The texts that 08 shows."""
    notebook, found = nbformat.read(ROOT / "notebooks" / "08_does_the_cnn_help.ipynb", as_version=4), []
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        found.append(output.get("text") or data.get("text/markdown") or data.get("text/html") or "")
    return found


@pytest.fixture(scope="module", params=ENCODERS)
def measured(request):
    """(an encoder's name, its trainings, its predictions)."""
    return request.param, *results.read_results(encoder=request.param)


@pytest.fixture(scope="module")
def embedded():
    return results.read_results(encoder="embedded")


def html_tables(texts, *columns) -> list[pd.DataFrame]:
    """The tables with two index columns that have these columns, as strings."""
    tables = []
    for text in texts:
        rows = re.findall(r"(?s)<tr.*?>(.*?)</tr>", text)
        rows = [[html.unescape(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]
        if len(rows) > 2 and rows[0][0] == "" and all(rows[1][:2]) and not any(rows[1][2:]):
            header = [lower or upper for upper, lower in zip(*rows[:2], strict=True)]
            if set(columns) <= set(header):
                tables.append(pd.DataFrame(rows[2:], columns=header))
    return tables


def wrong(examples, dataset, head, regime) -> pd.DataFrame:
    """Errors (S, N) of one classifier."""
    chosen = examples["dataset"].eq(dataset) & examples["head"].eq(head) & examples["regime"].eq(regime)
    rows = examples[chosen].assign(wrong=lambda rows: rows["label"] != rows["prediction"])
    return rows.pivot(index="seed", columns="example", values="wrong").astype(int)


def regime_of(head, regime) -> str:
    return regime if HEADS[head].bert else "trained"


def gain_of(examples, dataset, ours, theirs, regime) -> pd.DataFrame:
    """Example by example, 1 where only the first is right, -1 where only the second is: (S, N), of shared seeds."""
    first, second = (wrong(examples, dataset, head, regime_of(head, regime)) for head in (ours, theirs))
    if len(first) == 1 or len(second) == 1:  # one that depends on no seed
        longer = max(first.index, second.index, key=len)
        first, second = (
            rows if len(rows) > 1 else rows.loc[[0] * len(longer)].set_axis(longer) for rows in (first, second)
        )
    return (second - first).dropna()


def by_hand(values) -> tuple[float, float, float]:
    """(mean, standard error, degrees of freedom) of values (S, N), in points, from three sums of squares."""
    values = 100 * np.asarray(values, float)
    if len(values) == 1:
        return values.mean(), values.std(ddof=1) / np.sqrt(values.size), values.size - 1
    seeds, size = values.shape
    of_seeds, of_examples = size * values.mean(axis=1).var(ddof=1), seeds * values.mean(axis=0).var(ddof=1)
    free = np.array([seeds - 1, size - 1, (seeds - 1) * (size - 1)])
    rest = (values.var() * values.size - of_seeds * free[0] - of_examples * free[1]) / free[2]
    variance = max(of_seeds + of_examples - rest, rest / 4)
    squares = np.array([of_seeds * (1 + 6 / free[0] ** 2), of_examples, rest])
    freedom = max(squares[0] + squares[1] - rest, variance) ** 2 / (squares**2 / free).sum()
    return values.mean(), np.sqrt(variance / values.size), max(freedom, 1)


def holm_by_hand(p_values) -> list[float]:
    """The smallest times their number, the next times one less, and so on; none below the one before."""
    corrected, highest = np.empty(len(p_values)), 0
    for rank, place in enumerate(np.argsort(p_values)):
        corrected[place] = highest = max(highest, min(1, p_values[place] * (len(p_values) - rank)))
    return corrected.tolist()


def corrected(examples, regime) -> pd.DataFrame:
    """Mean, error and freedom of all comparisons behind the verdict, and both p-values after Holm's correction."""
    table = answer.headline(examples, regime)[["dataset", "head", "rival"]]
    numbers = [by_hand(gain_of(examples, row.dataset, row.head, row.rival, regime)) for row in table.itertuples()]
    mean, error, freedom = np.array(numbers).T
    error = np.maximum(error, 1e-10)
    differs, equal = 2 * t.sf(np.abs(mean) / error, freedom), t.sf((1 - np.abs(mean)) / error, freedom)
    return table.assign(
        mean=mean, error=error, freedom=freedom, p=holm_by_hand(differs), equal=holm_by_hand(equal)
    ).set_index(["dataset", "head", "rival"])


def verdict_of(row) -> str:
    if row["equal"] < 0.05:
        return "no difference that matters"
    return ("better" if row["mean"] > 0 else "worse") if row["p"] < 0.05 else "inconclusive"


def shown_comparisons(texts, encoder, regime) -> pd.DataFrame:
    """The table that 08 shows of an encoder in a regime: two of the embedded one, then one of the real one."""
    frozen, tuned, real, _ = html_tables(texts, "verdict", "difference")
    if encoder != "embedded":
        return real[real["regime"].eq(regime)]
    return frozen if regime == "frozen" else tuned


def test_differences_intervals_and_verdicts_follow_from_the_files(texts, measured):
    encoder, _, examples = measured
    for regime in set(REGIMES) & set(examples["regime"]):
        wanted, table = corrected(examples, regime), shown_comparisons(texts, encoder, regime)
        assert len(table) >= 2
        for _, row in table.iterrows():
            found = wanted.loc[LONG[row["dataset"]], "cnn", row["rival"]]
            half = t.ppf(0.975, found["freedom"]) * found["error"]
            low, high = map(float, row["95% interval"].split(" to "))
            assert float(row["difference"]) == pytest.approx(found["mean"], abs=0.051)
            assert (low, high) == pytest.approx((found["mean"] - half, found["mean"] + half), abs=0.051)
            power = (t.ppf(0.975, found["freedom"]) + t.ppf(0.8, found["freedom"])) * found["error"]
            assert float(row["detectable"]) == pytest.approx(power, abs=0.051)
            assert float(row["p"].removeprefix("< ")) == pytest.approx(found["p"], abs=0.0011)
            assert row["verdict"] == verdict_of(found), row


def test_what_the_old_start_cost_follows_from_the_files(texts, embedded):
    _, examples = embedded
    (table,) = (t for t in html_tables(texts, "verdict") if set(t["rival"]) == {"cnn_old_start"})
    for _, row in table.iterrows():
        gain = gain_of(examples, LONG[row["dataset"]], "cnn", "cnn_old_start", "fine-tuned")
        mean, error, freedom = by_hand(gain)
        low, high = map(float, row["95% interval"].split(" to "))
        half = t.ppf(0.975, freedom) * error
        assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.051) and int(row["seeds"]) == len(gain)


def test_accuracies_and_their_intervals_follow_from_the_files(texts, measured):
    encoder, cells, examples = measured
    tables = [table for table in html_tables(texts, "head", "regime") if "rotten_tomatoes" in table]
    tables = [table for table in tables if "(" in table["rotten_tomatoes"].iloc[0]]
    table, checked = tables[ENCODERS.index(encoder)], 0
    means = cells.groupby(["dataset", "head", "regime"])["accuracy"].mean() * 100
    for _, row in table.iterrows():
        for short in LONG:
            if row.get(short):
                right = 1 - wrong(examples, LONG[short], row["head"], row["regime"])
                mean, error, freedom = by_hand(right)
                half = t.ppf(0.975, freedom) * error
                score, low, high = re.fullmatch(r"(\S+) \((\S+) - (\S+)\)", row[short]).groups()
                assert float(score) == pytest.approx(mean, abs=0.051)
                assert float(score) == pytest.approx(means[LONG[short], row["head"], row["regime"]], abs=0.051)
                assert (float(low), float(high)) == pytest.approx((mean - half, mean + half), abs=0.051)
                checked += 1
    assert checked >= 10


def test_the_sentences_follow_from_the_files(texts, measured):
    """Lines such as "frozen embedded  cnn against token_mlp : better on 1, ... of 3 sources (-1.0 to +0.3 points)"."""
    encoder, _, examples = measured
    pattern = (
        rf"(frozen|fine-tuned) {encoder} +(\S+) +against (\S+) *: (.*) of (\d) sources? \((\S+)(?: to (\S+))? points\)"
    )
    lines = [found for text in texts for line in text.splitlines() if (found := re.match(pattern, line))]
    assert len(lines) >= 2
    for regime, ours, theirs, said, sources, low, high in (line.groups() for line in lines):
        rows = corrected(examples, regime).xs((ours, theirs), level=("head", "rival"))
        wanted = rows["mean"].min(), rows["mean"].max()
        assert (float(low), float(high or low)) == pytest.approx(wanted, abs=0.051)
        assert int(sources) == len({answer.source(dataset) for dataset in rows.index})
        assert sum(int((re.search(rf"{verdict} on (\d)", said) or [0, 0])[1]) for verdict in VERDICTS) == int(sources)


def test_the_trainings_are_counted_right(texts, embedded):
    cells, _ = embedded
    said = next(
        re.search(r"(\d+) trainings with `embedded`, (\S+) hours", text) for text in texts if "trainings" in text
    )
    assert said.groups() == (str(len(cells)), f"{cells['seconds'].sum() / 3600:.1f}")
    assert all(hardware.endswith("bf16") for hardware in cells["hardware"])  # one precision: no pair of heads mixes two


def test_the_spread_of_the_settings_follows_from_the_file(texts):
    tuning = pd.read_csv(results.find_results() / "tuning.csv")
    tuning = tuning[tuning["encoder"].str.startswith("embedded")]
    (table,) = (t for t in html_tables(texts, "head", "regime") if "(" not in "".join(t.iloc[:, 2:].to_numpy().ravel()))
    checked = 0
    for _, row in table.iterrows():
        for short in set(LONG) & set(table):
            chosen = tuning["dataset"].eq(LONG[short]) & tuning["head"].eq(row["head"])
            found = tuning.loc[chosen & tuning["regime"].eq(row["regime"]), "accuracy"]
            assert len(found) == (4 if row[short] else 0)
            if row[short]:
                assert float(row[short]) == pytest.approx(100 * (found.max() - found.min()), abs=0.051)
                checked += 1
    assert checked >= 10


def test_the_learning_curve_follows_from_the_file(texts, embedded):
    cells, _ = embedded
    means = cells[cells["regime"].eq("frozen")].groupby(["dataset", "head"])["accuracy"].mean() * 100
    lines = [
        line for text in texts for line in text.splitlines() if re.match(r"minus (mean|token_mlp) +.*examples: ", line)
    ]
    assert len(lines) == 2
    for line in lines:
        rival = line.split()[1]
        points = re.findall(r"([\d,]+) examples: (\S+)", line)
        assert len(points) >= 4
        for size, gain in points:
            name = MR if size == "8,530" else f"{MR}~{size.replace(',', '')}"
            assert float(gain) == pytest.approx(means[name, "cnn"] - means[name, rival], abs=0.051)


def test_where_the_gain_moves_with_length_follows_from_the_file(texts, embedded):
    """By another way: lengths and not examples are put into parts."""
    _, examples = embedded
    pattern = r"(\w+) +(\d+ tokens .*) +long minus short: (\S+) to (\S+)"
    lines = [found for text in texts for line in text.splitlines() if (found := re.match(pattern, line))]
    assert {line[1] for line in lines} == {
        LONG and answer.DATASETS[d] for d in set(examples["dataset"]) & set(answer.DATASETS)
    }
    for short, gains, low, high in (line.groups() for line in lines):
        gain = gain_of(examples, LONG[short], "cnn", "mean", "frozen")
        rows = examples[examples["dataset"].eq(LONG[short])].drop_duplicates("example").set_index("example")
        of_texts = rows["length"].reindex(gain.columns)
        edges = np.unique(np.quantile(of_texts, [0, 0.25, 0.5, 0.75, 1]))
        printed, parts = re.findall(r"(\d+) tokens (\S+)", gains), []
        assert len(printed) == len(edges) - 1
        for number, (least, most) in enumerate(itertools.pairwise(edges)):
            parts.append(((of_texts > least) | (number == 0)) & (of_texts <= most))
            assert float(printed[number][0]) == pytest.approx(of_texts[parts[-1]].median(), abs=0.51)
            assert float(printed[number][1]) == pytest.approx(100 * gain.loc[:, parts[-1]].mean(axis=None), abs=0.051)
        weights = parts[-1] * len(of_texts) / parts[-1].sum() - parts[0] * len(of_texts) / parts[0].sum()
        mean, error, freedom = by_hand(gain * weights)
        half = t.ppf(0.975, freedom) * error
        assert (float(low), float(high)) == pytest.approx((mean - half, mean + half), abs=0.051)


def test_our_rows_beside_published_ones_follow_from_the_files(texts, measured):
    encoder, cells, _ = measured
    means = cells.groupby(["dataset", "head", "regime"])["accuracy"].mean() * 100
    table = next(text for text in texts if "Kim 2014" in text and "<table" in text)
    columns = re.findall(r"<th>(\w+)</th>", table.split("</thead>")[0])
    rows = re.findall(rf"(?s)<th>{encoder}: (\S+), (\S+)</th>(.*?)</tr>", table)
    assert len(rows) >= 2
    for head, regime, row in rows:
        for short, value in zip(columns, re.findall(r"<td>(.*?)</td>", row), strict=True):
            mean = means.get((LONG[short], head, regime))
            assert value == ("" if mean is None else f"{mean:.1f}")


def test_the_cost_follows_from_the_file(texts, embedded):
    cells, _ = embedded
    said = next(text for text in texts if "one fine-tuned CNN" in text)
    rows = cells[cells["dataset"].eq(MR) & cells["head"].eq("cnn") & cells["regime"].eq("fine-tuned")]
    minutes = rows["seconds"].mean() / 60
    assert int(re.search(r"rotten_tomatoes: (\d+) minutes", said)[1]) == round(minutes)
    assert float(re.search(r"about (\S+) hours", said)[1]) == pytest.approx(27 * minutes / 60, abs=0.051)


def test_the_verdict_is_the_rule_applied_to_the_files(texts, measured):
    encoder, _, examples = measured
    said = next(text for text in texts if text.startswith("- **On "))
    for regime in set(REGIMES) & set(examples["regime"]):
        label = HEADS[answer.pick(answer.headline(examples, regime))].label
        advice = said.splitlines()[REGIMES.index(regime)]
        assert f"`{encoder}`" in advice
        # one head for all encoders, or each encoder with its own
        assert f"On a {regime} encoder, use {label}.**" in advice or f"{regime} `{encoder}`, use {label}" in advice


def test_what_could_have_been_missed_follows_from_the_files(texts):
    said = next(text for text in texts if "could have been missed" in text)
    found = []
    for encoder in ENCODERS:
        _, examples = results.read_results(encoder=encoder)
        tables = [answer.between(answer.headline(examples, regime), "cnn", "token_mlp") for regime in REGIMES]
        found += [100 * size for table in tables for size in table["detectable"]]
    assert f"one of {min(found):.1f} to {max(found):.1f} points between the CNN and `token_mlp`" in said
