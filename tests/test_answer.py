"""The answer: from predictions to verdicts, and what notebooks 08 and 10 show of it."""

import html
import io
import itertools
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, t
from sklearn.metrics import roc_auc_score

from companion.study import answer, results
from companion.study.challenge import load_challenge
from companion.study.specs import HEADS, MAIN, NO_BERT, REGIMES
from companion.study.statistics import VERDICTS, compare

ROOT = Path(__file__).parent.parent
RT, SST2, SST5, TREC, IMDB = answer.DATASETS


def predictions(dataset, head, rate, seeds=5, size=2000, classes=2, regime="frozen", encoder="embedded 12345678"):
    """A classifier that has this share of the examples right, the same ones for every seed but for a few."""
    rng = np.random.default_rng(0)
    labels, luck = rng.integers(0, classes, size), rng.random(size)
    rows = []
    for seed in range(seeds):
        right = luck + np.random.default_rng(seed).normal(0, 0.005, size) < rate
        rows.append(pd.DataFrame({"seed": seed, "example": range(size), "label": labels}))
        rows[-1]["prediction"] = np.where(right, labels, (labels + 1) % classes)
    names = {"dataset": dataset, "head": head, "regime": regime, "encoder": encoder, "recipe": f"p-{head}"}
    return pd.concat(rows).assign(**names)


def every_head(datasets, rates, **how):
    """Predictions of heads with these shares right, on each dataset."""
    found = [predictions(dataset, head, rate, **how) for dataset in datasets for head, rate in rates.items()]
    return pd.concat(found, ignore_index=True)


@pytest.fixture(scope="module")
def examples():
    return every_head(("a", "b", "c"), {"cnn": 0.85, "mean": 0.80, "mlp": 0.85, "max": 0.90})


def holm_by_hand(p_values) -> list[float]:
    """The smallest times their number, the next times one less, and so on; none below the one before."""
    corrected, highest = np.empty(len(p_values)), 0
    for rank, place in enumerate(np.argsort(p_values)):
        corrected[place] = highest = max(highest, min(1, p_values[place] * (len(p_values) - rank)))
    return corrected.tolist()


def verdicts(examples, rival):
    table = answer.comparisons(examples, ["a", "b", "c"], ("cnn", "frozen"), [(rival, "frozen")])
    return table, answer.sentence(table), answer.wins(table)


def test_a_gain_on_every_dataset(examples):
    table, said, wins = verdicts(examples, "mean")
    assert (table["difference"].between(0.04, 0.06)).all() and (table["low"] > 0.03).all()
    assert (table["significant"] == 5).all() and (table["seeds"] == 5).all()
    assert said.startswith("better on 3 of 3 sources (+") and wins


def test_a_loss_on_every_dataset(examples):
    _, said, wins = verdicts(examples, "max")
    assert said.startswith("worse on 3 of 3 sources (-") and not wins


def test_no_difference_is_said_as_such(examples):
    table, said, wins = verdicts(examples, "mlp")
    assert (table["significant"] == 0).all()
    assert said == "no difference that matters on 3 of 3 sources (+0.0 to +0.0 points)" and not wins


def test_p_values_are_corrected_for_the_whole_table(examples):
    rivals = [(rival, "frozen") for rival in ("mean", "mlp", "max")]
    table = answer.comparisons(examples, ["a", "b"], ("cnn", "frozen"), rivals)
    pairs = [(dataset, rival) for dataset in ("a", "b") for rival in rivals]
    alone = [compare(*results.paired(examples, dataset, ("cnn", "frozen"), rival)) for dataset, rival in pairs]
    for name in ("p_value", "p_equivalence"):
        assert table[name].tolist() == pytest.approx(holm_by_hand([getattr(found, name) for found in alone]))


def test_what_is_significant_only_by_itself_is_inconclusive():
    """One comparison at p = 0.02 is "better" alone, and among nine others without a difference it is not."""
    rng, size = np.random.default_rng(3), 1000
    labels = np.zeros(size, int)
    theirs = np.tile(rng.random(size) < 0.2, (5, 1)).astype(int)
    ours, places = theirs.copy(), np.flatnonzero(theirs[0])
    ours[:, places[:16]] = 0
    ours[:, np.flatnonzero(theirs[0] == 0)[:4]] = 1
    alone = compare(labels, ours, theirs)
    assert alone.verdict == "better" and 0.002 < alone.p_value < 0.02

    def rows(dataset, head, predicted):
        made = predictions(dataset, head, 1.0, size=size)
        return made.assign(label=0, prediction=predicted.ravel())

    several = pd.concat(
        [
            rows(f"d{i}", head, one)
            for i in range(30)
            for head, one in (("cnn", ours if i == 0 else theirs), ("mean", theirs))
        ]
    )
    table = answer.comparisons(several, [f"d{i}" for i in range(30)], ("cnn", "frozen"), [("mean", "frozen")])
    assert table["verdict"].iloc[0] == "inconclusive"


def test_datasets_that_share_sentences_are_one_source(examples):
    rates = {"cnn": 0.85, "mean": 0.80}
    family = answer.comparisons(
        every_head((RT, SST2, SST5, TREC), rates), [RT, SST2, SST5, TREC], ("cnn", "frozen"), [("mean", "frozen")]
    )
    assert len(family) == 4 and answer.sentence(family).startswith("better on 2 of 2 sources")
    assert answer.source(f"{RT}~50") == answer.source(RT) and answer.source("my/own@500") == "my/own"


@pytest.mark.parametrize(
    "found, voted",
    [
        (["better", "better", "inconclusive"], "better"),
        (["better", "better", "worse"], "inconclusive"),
        (["better", "inconclusive", "inconclusive"], "inconclusive"),
        (["no difference that matters", "no difference that matters", "worse"], "no difference that matters"),
        (["better", "no difference that matters"], "inconclusive"),
    ],
)
def test_a_source_votes_as_most_of_its_datasets_do(found, voted):
    table = pd.DataFrame({"verdict": found, "source": "one"})
    assert answer.by_source(table).to_dict() == {"one": voted}


def test_one_loss_is_enough_not_to_win():
    table = pd.DataFrame({"verdict": ["better", "better", "worse"], "source": ["a", "b", "c"]})
    assert not answer.wins(table) and answer.wins(table.head(2))
    assert not answer.wins(pd.DataFrame({"verdict": ["better", *["inconclusive"] * 2], "source": ["a", "b", "c"]}))


def test_only_shared_seeds_are_compared(examples):
    """While an experiment runs, one head can have seeds that another has not yet."""
    some = examples[~(examples["head"].eq("cnn") & examples["seed"].isin([1, 3]))]
    _, cnn, mean = results.paired(some, "a", ("cnn", "frozen"), ("mean", "frozen"))
    _, all_cnn, all_mean = results.paired(examples, "a", ("cnn", "frozen"), ("mean", "frozen"))
    assert (cnn == all_cnn[[0, 2, 4]]).all() and (mean == all_mean[[0, 2, 4]]).all()


def test_a_pair_that_was_not_measured_has_no_row(examples):
    some = examples[~(examples["head"].eq("mean") & examples["dataset"].eq("b"))]
    rivals = [("mean", "frozen"), ("mlp", "frozen")]
    table = answer.comparisons(some, ["a", "b"], ("cnn", "frozen"), rivals)
    assert list(zip(table["dataset"], table["rival"], strict=True)) == [("a", "mean"), ("a", "mlp"), ("b", "mlp")]
    with pytest.raises(ValueError, match="hold no pair of"):
        answer.comparisons(some, ["b"], ("cnn", "frozen"), [("mean", "frozen")])


def test_scores_are_the_mean_over_seeds_within_their_interval(examples):
    table = answer.scores(examples, "a")
    right = examples[examples["dataset"] == "a"].assign(right=lambda rows: rows["label"] == rows["prediction"])
    assert table["score"].to_dict() == pytest.approx(right.groupby(["head", "regime"])["right"].mean().to_dict())
    assert ((table["low"] < table["score"]) & (table["score"] < table["high"])).all()


def test_a_pair_without_a_common_seed_is_no_comparison(examples):
    apart = examples[examples["head"].eq("cnn") == examples["seed"].lt(2)]  # cnn 0 and 1, the others 2 to 4
    both = pd.concat([apart, examples[examples["dataset"].eq("b")]]).drop_duplicates()
    assert list(answer.comparisons(both, ["a", "b"], ("cnn", "frozen"), [("mlp", "frozen")])["dataset"]) == ["b"]


def test_one_seed_is_no_comparison(examples):
    pair = ("cnn", "frozen"), [("mlp", "frozen")]
    one = examples[examples["dataset"].eq("a") & examples["seed"].eq(0)]
    both = pd.concat([one, examples[examples["dataset"].eq("b")]])
    assert set(answer.comparisons(both, ["a", "b"], *pair)["dataset"]) == {"b"}
    with pytest.raises(ValueError, match="hold no pair of"):
        answer.comparisons(one, ["a"], *pair)


def test_what_has_no_seed_is_compared_with_every_seed():
    one = {"seeds": 1, "size": 500}
    rows = pd.concat([predictions("a", "cnn", 0.9, size=500), predictions("a", "mean", 0.8, **one)])
    (row,) = answer.comparisons(rows, ["a"], ("cnn", "frozen"), [("mean", "frozen")]).to_dict("records")
    assert row["seeds"] == 5 and row["verdict"] == "better"
    rows = pd.concat([predictions("a", "cls", 0.9, **one), predictions("a", "mean", 0.8, **one)])
    assert len(answer.comparisons(rows, ["a"], ("cls", "frozen"), [("mean", "frozen")])) == 1


def study(frozen, tuned, encoder="embedded 12345678", tfidf=0.8):
    """Results on three sources, with these shares right in either regime."""
    datasets = (RT, TREC, IMDB)
    parts = [every_head(datasets, frozen, encoder=encoder)]
    parts += [every_head(datasets, tuned, encoder=encoder, regime="fine-tuned")]
    parts += [predictions(dataset, "tfidf", tfidf, 1, regime="trained", encoder=encoder) for dataset in datasets]
    return pd.concat(parts, ignore_index=True)


LAYER = {"mean": 0.75, "mlp": 0.75, "token_mlp": 0.85, "cnn": 0.85}
SAME = {"mean": 0.88, "mlp": 0.88, "token_mlp": 0.88, "cnn": 0.88}


def test_the_verdict_in_three_sentences_and_three_answers():
    lines = answer.verdict(study(LAYER, SAME)).splitlines()
    assert [line.startswith("- **") for line in lines] == [True, True, True, False, True, True, True]
    layer = HEADS["token_mlp"].label
    assert f"On a frozen encoder, put {layer}**" in lines[0]
    assert "better on 3 of 3 sources (+9.4 to +9.4 points)" in lines[0] or "better on 3 of 3 sources" in lines[0]
    assert f"On a fine-tuned encoder, put {HEADS['mean'].label}**" in lines[1]
    assert "with frozen `embedded` the head above is better on 3 of 3 sources" in lines[2]
    assert "with frozen `embedded` the CNN is no difference that matters on 3 of 3 sources" in lines[4]
    assert "Not measured yet" in lines[5] and "four times in five" in lines[6]


@pytest.mark.parametrize(
    "rates, picked",
    [
        (LAYER, "token_mlp"),
        (SAME, "mean"),
        (LAYER | {"cnn": 0.9}, "cnn"),
        (LAYER | {"mlp": 0.8}, "token_mlp"),
        (SAME | {"mlp": 0.93}, "mlp"),
        (SAME | {"cnn": 0.8}, "mean"),
        ({"mean": 0.7, "cnn": 0.8}, "cnn"),
    ],
)
def test_the_simplest_head_that_no_larger_one_beats(rates, picked):
    assert answer.pick(answer.headline(study(rates, SAME), "frozen")) == picked


@pytest.mark.parametrize("rates, held", [(LAYER, "yes"), (SAME, "no")])
def test_the_verdict_on_two_encoders(rates, held):
    both = pd.concat([study(LAYER, SAME), study(rates, SAME, "all-MiniLM-L6-v2 87654321")])
    said = answer.verdict(both)
    assert f"frozen `all-MiniLM-L6-v2`: {held}" in said and "fine-tuned `all-MiniLM-L6-v2`: yes" in said
    with pytest.raises(ValueError, match="results of 2 encoders"):
        answer.headline(both, "frozen")


def test_a_verdict_on_nothing_is_refused(examples):
    with pytest.raises(ValueError, match="hold no two heads with two seeds or more"):
        answer.verdict(examples)
    assert "better on 3 of 3 sources" in answer.verdict(examples[examples["head"].ne("max")], ("a", "b", "c"))


def test_texts_of_one_length_stay_in_one_part():
    lengths = [5, 9, 256, 256, 256, 256, 7, 256]
    rows = pd.DataFrame({"dataset": "d", "example": range(8), "length": lengths})
    parts = results.length_parts(pd.concat([rows, rows]).sample(frac=1, random_state=0), "d")  # two trainings' rows
    assert sorted(np.concatenate([part for _, part in parts]).tolist()) == list(range(8))
    assert {2, 3, 4, 5, 7} <= set(parts[-1][1].tolist())
    assert [median for median, _ in parts] == sorted(median for median, _ in parts)


def test_the_series_own_results_are_found():
    cells, examples = results.read_results()
    counted = examples.groupby(["dataset", "head", "regime", "encoder"], observed=True)["seed"].nunique()
    assert counted.to_dict() == cells.groupby(["dataset", "head", "regime", "encoder"]).size().to_dict()


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
    return texts, *results.read_results(encoder="embedded")


def html_tables(texts) -> list[pd.DataFrame]:
    """The tables with two index columns, as strings."""
    tables = []
    for text in texts:
        rows = re.findall(r"(?s)<tr.*?>(.*?)</tr>", text)
        rows = [[html.unescape(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]
        if len(rows) > 2 and rows[0][0] == "" and all(rows[1][:2]) and not any(rows[1][2:]):
            header = [lower or upper for upper, lower in zip(*rows[:2], strict=True)]
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


def test_every_macro_f1_is_the_mean_of_the_files_rows(shown):
    texts, cells, _ = shown
    table = next(t for t in html_tables(texts) if t.columns[0] == "head" and "tfidf" not in set(t["head"]))
    means = cells.groupby(["dataset", "head", "regime"])["macro_f1"].mean() * 100
    assert len(table) == 6
    for _, row in table.iterrows():
        for dataset, short in answer.DATASETS.items():
            assert row[short].split()[0] == f"{means[dataset, row['head'], row['regime']]:.1f}"


def test_the_experiment_is_counted_right(shown):
    texts, cells, examples = shown
    said = next(
        re.search(r"(\d+) trainings, (\S+) predictions, (\S+) hours", text) for text in texts if "trainings," in text
    )
    hours = cells["seconds"].sum() / 3600
    assert said.groups() == (str(len(cells)), f"{len(examples):,}", f"{hours:.1f}")
    table = next(t for t in html_tables(texts) if t.columns[0] == "regime")
    for _, row in table.iterrows():
        for dataset, short in answer.DATASETS.items():
            chosen = cells["dataset"].eq(dataset) & cells["head"].eq(row["head"]) & cells["regime"].eq(row["regime"])
            assert row[short] == (str(chosen.sum()) if chosen.any() else "")


def wrong(examples, dataset, head, regime) -> pd.DataFrame:
    """Errors (S, N) of one classifier."""
    chosen = examples["dataset"].eq(dataset) & examples["head"].eq(head) & examples["regime"].eq(regime)
    rows = examples[chosen].assign(wrong=lambda rows: rows["label"] != rows["prediction"])
    return rows.pivot(index="seed", columns="example", values="wrong")


def gain_of(examples, dataset, ours, theirs) -> pd.DataFrame:
    """Example by example, 1 where only the first is right, -1 where only the second is: (S, N), of shared seeds."""
    first, second = (wrong(examples, dataset, *one).astype(int) for one in (ours, theirs))
    if theirs[0] == "tfidf":
        return second.iloc[0] - first
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
    return values.mean(), np.sqrt(variance / values.size), freedom


def printed_p(table) -> pd.Series:
    """As numbers, "< 0.001" as 0.001."""
    return table["p"].str.removeprefix("< ").astype(float)


def quantile(level, freedom):
    return t.ppf(level, freedom)


@pytest.mark.parametrize("number, regime", [(0, "frozen"), (1, "fine-tuned")])
def test_intervals_and_verdicts_follow_from_the_file(shown, number, regime):
    texts, _, examples = shown
    names = {short: dataset for dataset, short in answer.DATASETS.items()}
    table, differs, equal = [t for t in html_tables(texts) if "verdict" in t][number], [], []
    for _, row in table.iterrows():
        gain = gain_of(examples, names[row["dataset"]], ("cnn", regime), (row["rival"], regime))
        mean, error, freedom = by_hand(gain)
        low, high = map(float, row["95% interval"].split(" to "))
        half = quantile(0.975, freedom) * error
        assert float(row["difference"]) == pytest.approx(mean, abs=0.051)
        assert (low, high) == (pytest.approx(mean - half, abs=0.051), pytest.approx(mean + half, abs=0.051))
        detectable = (quantile(0.975, freedom) + quantile(0.8, freedom)) * error
        assert float(row["detectable"]) == pytest.approx(detectable, abs=0.051)
        differs.append(2 * t.sf(abs(mean) / error, freedom))
        equal.append(t.sf((1 - abs(mean)) / error, freedom))
    assert printed_p(table).tolist() == pytest.approx(holm_by_hand(differs), abs=0.001)
    for (_, row), p_value, p_equal in zip(table.iterrows(), holm_by_hand(differs), holm_by_hand(equal), strict=True):
        sign = "better" if float(row["difference"]) > 0 else "worse"
        wanted = "no difference that matters" if p_equal < 0.05 else sign if p_value < 0.05 else "inconclusive"
        assert row["verdict"] == wanted


def test_the_intervals_of_accuracies_follow_from_the_file(shown):
    texts, _, examples = shown
    table = next(t for t in html_tables(texts) if "tfidf" in set(t.iloc[:, 0]))
    for _, row in table.iterrows():
        for dataset, short in answer.DATASETS.items():
            if row[short]:
                mean, error, freedom = by_hand(1 - wrong(examples, dataset, row["head"], row["regime"]).astype(int))
                half = quantile(0.975, freedom) * error
                score, low, _, high = re.fullmatch(r"(\S+) \((\S+) (-) (\S+)\)", row[short]).groups()
                assert float(score) == pytest.approx(mean, abs=0.051)
                assert float(low) == pytest.approx(mean - half, abs=0.051)
                assert float(high) == pytest.approx(mean + half, abs=0.051)


@pytest.mark.parametrize(
    "regime, printed, ours, theirs",
    [
        (regime, *pair)
        for regime in REGIMES
        for pair in (
            ("CNN against static_cnn", "cnn", "static_cnn"),
            ("CNN against tfidf", "cnn", "tfidf"),
            ("four layers against one", "cnn_last4", "cnn"),
        )
    ],
)
def test_the_sentences_on_other_rivals_follow_from_the_file(shown, regime, printed, ours, theirs):
    texts, _, examples = shown
    line = next(line for text in texts for line in text.splitlines() if re.match(rf"{regime} +{printed} *:", line))
    rival = (theirs, "trained" if theirs in NO_BERT else regime)
    means = [by_hand(gain_of(examples, dataset, (ours, regime), rival))[0] for dataset in answer.DATASETS]
    low, high = map(float, re.search(r"\((\S+) to (\S+) points\)", line).groups())
    assert (low, high) == (pytest.approx(min(means), abs=0.051), pytest.approx(max(means), abs=0.051))
    assert "of 3 sources" in line
    assert sum(int((re.search(rf"{verdict} on (\d)", line) or [0, 0])[1]) for verdict in VERDICTS) == 3


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("rival", ["mean", "mlp"])
def test_the_sentences_on_macro_f1_follow_from_the_file(shown, regime, rival):
    texts, cells, _ = shown
    pattern = rf"{regime} +CNN against {rival} *: (.*)\((\S+) to (\S+) points\); worse on: (.*)"
    low, high, hurt = next(
        found.groups()[1:] for text in texts for line in text.splitlines() if (found := re.match(pattern, line))
    )
    f1 = cells[cells["regime"] == regime].set_index(["dataset", "head", "seed"]).sort_index()["macro_f1"] * 100
    gains = {short: (f1[name, "cnn"] - f1[name, rival]).mean() for name, short in answer.DATASETS.items()}
    assert float(low) == pytest.approx(min(gains.values()), abs=0.051)
    assert float(high) == pytest.approx(max(gains.values()), abs=0.051)
    hurt = [] if hurt == "none" else hurt.split(", ")
    assert all(gains[short] < 0 for short in hurt)


def test_our_rows_beside_published_ones_follow_from_the_file(shown):
    texts, cells, _ = shown
    means = cells.groupby(["dataset", "head", "regime"])["accuracy"].mean() * 100
    table = next(text for text in texts if "here: " in text and "<table" in text)
    rows = re.findall(r"(?s)<th>here: (\S+), (\S+)</th>(.*?)</tr>", table)
    assert len(rows) == 5
    for head, regime, row in rows:
        found = re.findall(r"<td>(.*?)</td>", row)
        assert found == [f"{means[dataset, head, regime]:.1f}" for dataset in answer.DATASETS]


def test_precision_and_cost_follow_from_the_file(shown):
    texts, cells, _ = shown
    (hardware,) = cells["hardware"].unique()  # one precision: no pair of heads mixes two
    assert hardware.endswith("bf16") and any(f"all on: {hardware}" in text for text in texts)
    said = next(text for text in texts if "the whole comparison" in text)
    whole, hours, days = (float(re.search(rf"{what} (\S+)", said)[1]) for what in ("comparison", "seeds:", "some"))
    chosen = cells[cells["dataset"].isin(answer.DATASETS) & cells["head"].isin(MAIN)]
    assert whole == pytest.approx(chosen["seconds"].sum() / 3600, abs=0.051)
    means = chosen.groupby(["regime", "dataset", "head"])["seconds"].mean()["fine-tuned"]
    tuned = 5 * sum(seconds for (dataset, _), seconds in means.items() if "trec" not in dataset)
    assert hours == pytest.approx(tuned / 3600, abs=0.051)
    assert days == pytest.approx(27 * tuned / 3600 / 24, abs=0.51)


@pytest.mark.parametrize("number, regime", [(0, "frozen"), (1, "fine-tuned")])
def test_the_seeds_that_pass_the_stricter_test_are_counted_right(shown, number, regime):
    """McNemar's test as a binomial one, Holm's correction by hand."""
    texts, _, examples = shown
    names = {short: dataset for dataset, short in answer.DATASETS.items()}
    table = [t for t in html_tables(texts) if "verdict" in t][number]
    p_values, places = [], []
    for place, row in table.iterrows():
        ours, theirs = (wrong(examples, names[row["dataset"]], head, regime) for head in ("cnn", row["rival"]))
        for seed in ours.index.intersection(theirs.index):
            lost, won = (ours.loc[seed] & ~theirs.loc[seed]).sum(), (~ours.loc[seed] & theirs.loc[seed]).sum()
            p_values.append(binomtest(int(won), int(won + lost)).pvalue)
            places.append(place)
    passed = dict.fromkeys(table.index, 0)
    for p_value, place in zip(holm_by_hand(p_values), places, strict=True):
        passed[place] += p_value < 0.05
    assert [row["significant"].split()[0] for _, row in table.iterrows()] == [str(passed[i]) for i in table.index]


def test_the_verdict_is_the_rule_applied_to_the_file(shown):
    """Which head is put on which encoder, by the tables that the text does not show."""
    texts, _, examples = shown
    said = next(text for text in texts if "On a frozen encoder, put" in text)
    for regime in REGIMES:
        table = answer.headline(examples, regime)
        head = answer.pick(table)
        assert f"On a {regime} encoder, put {HEADS[head].label}**" in said
        without = table[table["head"].eq(head) & table["rival"].eq("tfidf")]
        assert answer.sentence(without) in said
        assert f"with {regime} `embedded` {100 * table['detectable'].median():.1f}" in said


def printed_gains(shown, pattern) -> list[re.Match]:
    """What the lines of gains say, as in "frozen  imdb  142 tokens +2.1  202 tokens +2.1"."""
    return [found for text in shown[0] for line in text.splitlines() if (found := re.match(pattern, line))]


def test_the_learning_curve_follows_from_the_file(shown):
    _, cells, _ = shown
    accuracy = cells.set_index(["dataset", "head", "regime", "seed"]).sort_index()["accuracy"] * 100
    lines = printed_gains(shown, r"(frozen|fine-tuned) +(50: .*)")
    assert len(lines) == 2
    for regime, gains in (line.groups() for line in lines):
        for size, gain in re.findall(r"(\d+): (\S+)", gains):
            name = "cornell-movie-review-data/rotten_tomatoes" + ("" if size == "8530" else f"~{size}")
            difference = (accuracy[name, "cnn", regime] - accuracy[name, "mean", regime]).mean()
            assert float(gain) == pytest.approx(difference, abs=0.051)
    counted = printed_gains(shown, r"(seeds) +(50: .*)")
    assert len(counted) == 2
    for line, count in zip(lines, counted, strict=True):
        for size, seeds in re.findall(r"(\d+): (\d+)", count[2]):
            name = "cornell-movie-review-data/rotten_tomatoes" + ("" if size == "8530" else f"~{size}")
            shared = [set(accuracy[name, head, line[1]].index) for head in ("cnn", "mean")]
            assert int(seeds) == len(set.intersection(*shared))


def test_where_the_gain_moves_with_length_follows_from_the_file(shown):
    """The gain on the longest part minus that on the shortest."""
    texts, _, examples = shown
    names, said, last = {short: dataset for dataset, short in answer.DATASETS.items()}, {}, None
    for line in (line for text in texts for line in text.splitlines()):
        if found := re.match(r"(frozen|fine-tuned) +(\w+) +\d+ tokens", line):
            last = found.groups()
            said[last] = None
        elif found := re.match(r" +long minus short: (\S+) to (\S+) points", line):
            said[last] = tuple(map(float, found.groups()))
    assert len(said) == 2 * len(answer.DATASETS)
    for (regime, short), ends in said.items():
        gain = gain_of(examples, names[short], ("cnn", regime), ("mean", regime)).to_numpy()
        (_, first), *_, (_, last) = results.length_parts(examples, names[short])
        weights = np.zeros(gain.shape[1])  # the mean over all texts is then the long ones' mean minus the short ones'
        weights[last], weights[first] = gain.shape[1] / len(last), -gain.shape[1] / len(first)
        mean, error, freedom = by_hand(weights * gain)
        by_seed = 100 * (gain[:, last].mean(axis=1) - gain[:, first].mean(axis=1))
        assert mean == pytest.approx(by_seed.mean())
        low, high = mean + np.array([-1, 1]) * quantile(0.975, freedom) * error
        if ends:
            assert ends == (pytest.approx(low, abs=0.051), pytest.approx(high, abs=0.051))
        else:
            assert low < 0.051 and high > -0.051


def test_the_gain_by_length_keeps_texts_of_one_length_together(shown):
    """By another way: lengths and not examples are put into parts. IMDb's test file is sorted by label."""
    _, _, examples = shown
    lines = printed_gains(shown, r"(frozen|fine-tuned) +(\w+) +(\d+ tokens .*)")
    assert len(lines) == 2 * len(answer.DATASETS)
    names = {short: dataset for dataset, short in answer.DATASETS.items()}
    for regime, short, gains in (line.groups() for line in lines):
        rows = examples[examples["dataset"].eq(names[short]) & examples["regime"].eq(regime)]
        rows = rows[rows["head"].isin(["cnn", "mean"])].assign(right=lambda r: 100.0 * (r["label"] == r["prediction"]))
        right = rows.pivot(index=["seed", "example", "length"], columns="head", values="right").dropna().reset_index()
        of_texts = right.drop_duplicates("example")["length"]
        edges = np.unique(np.quantile(of_texts, [0, 0.25, 0.5, 0.75, 1]))
        printed = re.findall(r"(\d+) tokens (\S+)", gains)
        assert len(printed) == len(edges) - 1
        for number, (low, high) in enumerate(itertools.pairwise(edges)):
            part = right[(right["length"].gt(low) | (number == 0)) & right["length"].le(high)]
            middle = part.drop_duplicates("example")["length"].median()
            assert float(printed[number][0]) == pytest.approx(middle, abs=0.51)
            assert float(printed[number][1]) == pytest.approx((part["cnn"] - part["mean"]).mean(), abs=0.051)


# What notebook 10 shows of the challenge set. -------------------------------------------------------------------------

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
        rows = results.read_log_odds(results.find_results() / "challenge", encoder).loc[(RT, *classifier)]
        odds[name] = np.stack(rows["challenge"].to_numpy()).astype(float)
    return tables, load_challenge(), odds


def test_every_seed_of_the_challenge_set_is_counted(scored):
    tables, _, odds = scored
    assert tables["classifier"]["seeds"].to_dict() == {name: len(rows) for name, rows in odds.items()}


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
