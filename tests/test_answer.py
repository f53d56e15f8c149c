"""The answer: from predictions to verdicts, and what notebook 08 shows of it."""

import html
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm

from companion import answer
from companion.evaluation import compare
from companion.heads import HEADS

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


def holm_by_hand(p_values) -> list[float]:
    """The smallest times their number, the next times one less, and so on; none below the one before."""
    corrected, highest = np.empty(len(p_values)), 0
    for rank, place in enumerate(np.argsort(p_values)):
        corrected[place] = highest = max(highest, min(1, p_values[place] * (len(p_values) - rank)))
    return corrected.tolist()


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


def test_what_was_not_found_is_not_called_absent():
    found = pd.DataFrame({"verdict": ["no difference that matters", "cannot tell"], "p_value": 1.0})
    assert answer.advice(found) == "no gain found, though a small one is not ruled out"


@pytest.mark.parametrize("verdict", ["helps", "hurts"])
def test_what_rings_once_among_many_is_no_ground_for_advice(verdict):
    found = pd.DataFrame({"verdict": [verdict, *["cannot tell"] * 4], "p_value": [0.3, 1, 1, 1, 1]})
    assert answer.advice(found) == "no gain found, though a small one is not ruled out"


def test_p_values_are_corrected_for_the_whole_table(examples):
    rivals = [(rival, "frozen") for rival in ("mean", "mlp", "max")]
    table = answer.comparisons(examples, ["a", "b"], ("cnn", "frozen"), rivals, count=400)
    alone = []
    for dataset in ("a", "b"):
        for rival in rivals:
            alone.append(compare(*answer.paired(examples, dataset, ("cnn", "frozen"), rival), count=400).p_value)
    assert table["p_value"].tolist() == pytest.approx(holm_by_hand(alone))


def test_what_does_without_bert_is_reported_and_not_advised_on(examples):
    rows = examples[examples["head"].isin(["cnn", "mean"])].assign(
        head=lambda rows: rows["head"].replace("mean", "static_cnn"),
        regime=lambda rows: np.where(rows["head"].eq("cnn"), "frozen", "trained"),
    )
    table = answer.comparisons(rows, ["a"], ("cnn", "frozen"), [("static_cnn", "trained")], count=200)
    said = answer.verdict({"frozen": table})
    assert f"against {answer.NO_BERT['static_cnn']}: helps on 1 of 1" in said and "add the CNN" not in said


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


def test_nothing_is_advised_against_a_rival_that_was_not_measured(examples):
    table = answer.comparisons(examples, ["a"], ("cnn", "frozen"), [("mean", "frozen")], count=200)
    said = answer.verdict({"frozen": table})
    assert said.count("add the CNN") == 1 and answer.RIVALS["mean"] in said and answer.RIVALS["mlp"] not in said


def test_scores_are_the_mean_over_seeds_within_their_interval(examples):
    table = answer.scores(examples, "a")
    right = examples[examples["dataset"] == "a"].assign(right=lambda rows: rows["label"] == rows["prediction"])
    assert table["score"].to_dict() == pytest.approx(right.groupby(["head", "regime"])["right"].mean().to_dict())
    assert ((table["low"] < table["score"]) & (table["score"] < table["high"])).all()


def test_a_pair_without_a_common_seed_is_no_comparison(examples):
    apart = examples[examples["head"].eq("cnn") == examples["seed"].lt(2)]  # cnn 0 and 1, the others 2 to 4
    table = answer.comparisons(
        pd.concat([apart, examples[examples["dataset"].eq("b")]]).drop_duplicates(),
        ["a", "b"],
        ("cnn", "frozen"),
        [("mean", "frozen")],
        count=200,
    )
    assert list(table["dataset"]) == ["b"]


def test_one_seed_is_no_comparison(examples):
    pair = ("cnn", "frozen"), [("mean", "frozen")]
    one = examples[examples["dataset"].eq("a") & examples["seed"].eq(0)]
    both = pd.concat([one, examples[examples["dataset"].eq("b")]])
    assert set(answer.comparisons(both, ["a", "b"], *pair, count=200)["dataset"]) == {"b"}
    with pytest.raises(ValueError, match="hold no pair of cnn, frozen"):
        answer.comparisons(one, ["a"], *pair, count=200)


@pytest.mark.parametrize("found", [["helps", "helps", "hurts"], ["helps", *["cannot tell"] * 4]])
def test_advice_where_the_cnn_helps_but_not_on_most_or_also_hurts(found):
    assert answer.advice(pd.DataFrame({"verdict": found, "p_value": 0.001})) == "try both on your own validation data"


def test_texts_of_one_length_stay_in_one_part():
    lengths = [5, 9, 256, 256, 256, 256, 7, 256]
    rows = pd.DataFrame({"dataset": "d", "example": range(8), "length": lengths})
    parts = answer.length_parts(pd.concat([rows, rows]).sample(frac=1, random_state=0), "d")  # two trainings' rows
    assert sorted(np.concatenate([part for _, part in parts]).tolist()) == list(range(8))
    assert {2, 3, 4, 5, 7} <= set(parts[-1][1].tolist())
    assert [median for median, _ in parts] == sorted(median for median, _ in parts)


def test_a_verdict_does_not_hang_on_the_draws():
    """How far the ends of an interval move from one set of draws to the next, in points."""
    rng = np.random.default_rng(0)
    labels, ours, theirs = np.zeros(1000, int), *(rng.random((2, 5, 1000)) > 0.8).astype(int)
    ends = np.array([(c.low, c.high) for c in (compare(labels, ours, theirs, seed=seed) for seed in range(4))])
    assert np.ptp(ends, axis=0).max() < 0.03 * np.mean(ends[:, 1] - ends[:, 0])


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


def in_closed_form(values) -> tuple[float, float]:
    """(mean, standard error) of values (S, N), in points. The variances over seeds, over examples and of what is left
    add up; so they do in a bootstrap of both."""
    values = 100 * np.asarray(values, float)
    (seeds, size), (over_seeds, over_examples) = values.shape, (values.mean(axis=1), values.mean(axis=0))
    rest = values - over_examples - over_seeds[:, None] + values.mean()
    variance = over_examples.var() / size
    if seeds > 1:
        variance += over_seeds.var(ddof=1) / seeds + (rest**2).mean() / size / (seeds - 1)
    return values.mean(), np.sqrt(variance)


def printed_p(table) -> pd.Series:
    """As numbers, "< 0.001" as 0.001."""
    return table["p"].str.removeprefix("< ").astype(float)


def verdict_in_closed_form(mean, error) -> str | None:
    """By normal intervals; None where that is too close to call."""
    limits = np.abs([abs(mean) + 1.645 * error - 1, abs(mean) - 1.96 * error])
    if limits.min() < 0.15:
        return None
    if abs(mean) + 1.645 * error < 1:
        return "no difference that matters"
    return "cannot tell" if abs(mean) < 1.96 * error else "helps" if mean > 0 else "hurts"


@pytest.mark.parametrize("number, regime", [(0, "frozen"), (1, "fine-tuned")])
def test_intervals_are_those_of_a_bootstrap_in_closed_form(shown, number, regime):
    texts, _, examples = shown
    names = {short: dataset for dataset, short in answer.DATASETS.items()}
    table, alone = [t for t in html_tables(texts) if "verdict" in t][number], []
    for _, row in table.iterrows():
        mean, error = in_closed_form(gain_of(examples, names[row["dataset"]], ("cnn", regime), (row["rival"], regime)))
        low, high = map(float, row["95% interval"].split(" to "))
        assert low == pytest.approx(mean - 1.96 * error, abs=0.3)
        assert high == pytest.approx(mean + 1.96 * error, abs=0.3)
        assert float(row["detectable"]) == pytest.approx(2.80 * error, rel=0.05, abs=0.07)
        assert verdict_in_closed_form(mean, error) in (row["verdict"], None)
        alone.append(2 * norm.sf(abs(mean) / error))
    assert printed_p(table).tolist() == pytest.approx(holm_by_hand(alone), rel=0.5, abs=0.02)


def test_the_intervals_of_accuracies_follow_from_the_file(shown):
    texts, _, examples = shown
    table = next(t for t in html_tables(texts) if "tfidf" in set(t.iloc[:, 0]))
    for _, row in table.iterrows():
        for dataset, short in answer.DATASETS.items():
            if row[short]:
                mean, error = in_closed_form(1 - wrong(examples, dataset, row["head"], row["regime"]).astype(int))
                score, low, _, high = re.fullmatch(r"(\S+) \((\S+) (-) (\S+)\)", row[short]).groups()
                assert float(score) == pytest.approx(mean, abs=0.051)
                assert float(low) == pytest.approx(mean - 1.96 * error, abs=0.3)
                assert float(high) == pytest.approx(mean + 1.96 * error, abs=0.3)


@pytest.mark.parametrize(
    "regime, printed, ours, theirs",
    [
        (regime, *pair)
        for regime in answer.REGIMES
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
    rival = (theirs, "trained" if theirs in answer.NO_BERT else regime)
    found = [in_closed_form(gain_of(examples, dataset, (ours, regime), rival)) for dataset in answer.DATASETS]
    low, high = map(float, re.search(r"\((\S+) to (\S+) points\)", line).groups())
    means = [mean for mean, _ in found]
    assert (low, high) == (pytest.approx(min(means), abs=0.051), pytest.approx(max(means), abs=0.051))
    assert f"of {len(found)} datasets" in line
    verdicts = [verdict_in_closed_form(*one) for one in found]
    for verdict in answer.VERDICTS:  # some are too close to call without draws
        count = int((re.search(rf"{verdict} on (\d)", line) or [0, 0])[1])
        assert verdicts.count(verdict) <= count <= verdicts.count(verdict) + verdicts.count(None)


@pytest.mark.parametrize("regime", answer.REGIMES)
@pytest.mark.parametrize("rival", ["mean", "mlp"])
def test_the_sentences_on_macro_f1_follow_from_the_file(shown, regime, rival):
    texts, cells, _ = shown
    pattern = rf"{regime} +CNN against {rival} *: (.*)\((\S+) to (\S+) points\); hurts on: (.*)"
    said, low, high, hurt = next(
        found.groups() for text in texts for line in text.splitlines() if (found := re.match(pattern, line))
    )
    f1 = cells[cells["regime"] == regime].set_index(["dataset", "head", "seed"]).sort_index()["macro_f1"] * 100
    gains = {short: (f1[name, "cnn"] - f1[name, rival]).mean() for name, short in answer.DATASETS.items()}
    assert float(low) == pytest.approx(min(gains.values()), abs=0.051)
    assert float(high) == pytest.approx(max(gains.values()), abs=0.051)
    hurt = [] if hurt == "none" else hurt.split(", ")
    assert all(gains[short] < 0 for short in hurt) and (f"hurts on {len(hurt)}" in said) == bool(hurt)


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
    chosen = cells[cells["dataset"].isin(answer.DATASETS) & cells["head"].isin([*HEADS, *answer.NO_BERT])]
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
    tables = [t.assign(p_value=printed_p(t)) for t in html_tables(texts) if "verdict" in t]
    for rival, what in answer.RIVALS.items():
        lines = [line for line in said.splitlines() if f"against {what}:" in line]
        assert len(lines) == 2
        for line, table in zip(lines, tables, strict=True):
            counts = table.loc[table["rival"] == rival, "verdict"].value_counts()
            assert all(f"{verdict} on {count}" in line for verdict, count in counts.items())
            assert line.endswith(f"{answer.advice(table[table['rival'] == rival])}.")
    for head, what in answer.NO_BERT.items():  # and as it is printed further above
        printed = [
            line for text in texts for line in text.splitlines() if re.match(rf"\S+ +CNN against {head} *:", line)
        ]
        lines = [line for line in said.splitlines() if f"against {what}:" in line]
        assert len(lines) == 2
        assert [p.split(": ", 1)[1] for p in printed] == [line.split(": ", 1)[1].removesuffix(".") for line in lines]


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
    """By another way than draws: of each seed the gain on the longest part minus that on the shortest."""
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
        (_, first), *_, (_, last) = answer.length_parts(examples, names[short])
        by_seed = 100 * (gain[:, last].mean(axis=1) - gain[:, first].mean(axis=1))
        variance = by_seed.var(ddof=1) / len(gain) + sum(
            in_closed_form(gain[:, part])[1] ** 2 - (100 * gain[:, part].mean(axis=1)).var(ddof=1) / len(gain)
            for part in (first, last)
        )
        low, high = by_seed.mean() + np.array([-1.96, 1.96]) * np.sqrt(variance)
        if ends:
            assert ends == (pytest.approx(low, abs=1), pytest.approx(high, abs=1))
        else:
            assert low < 0.3 and high > -0.3


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
        for number, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            part = right[(right["length"].gt(low) | (number == 0)) & right["length"].le(high)]
            middle = part.drop_duplicates("example")["length"].median()
            assert float(printed[number][0]) == pytest.approx(middle, abs=0.51)
            assert float(printed[number][1]) == pytest.approx((part["cnn"] - part["mean"]).mean(), abs=0.051)
