"""The answer: from predictions to verdicts."""

import numpy as np
import pandas as pd
import pytest

from companion.study import answer, results
from companion.study.specs import HEADS
from companion.study.statistics import compare

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
    assert said == "no difference that matters on 3 of 3 sources (+0.0 points)" and not wins


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
    assert f"On a frozen encoder, use {layer}.**" in lines[0]
    both = "on every source with frozen and fine-tuned `embedded`; differences of "
    assert "this larger head is better on every source with `embedded`; " in lines[0]
    assert f"On a fine-tuned encoder, use {HEADS['mean'].label}.**" in lines[1]
    assert f"Compared with it, the heads above are better {both}" in lines[2]
    assert f"the CNN is the same within the margin {both}" in lines[4]
    assert "Not measured yet" in lines[5] and "is missed once in five times" in lines[6]


def test_an_encoder_on_which_nothing_is_better_is_named():
    """Where a head is better on one encoder only, the other's "none of 3" is said, too; and where it is worse."""
    both = pd.concat([study(LAYER, SAME), study(SAME, SAME, "other 87654321", tfidf=0.95)])
    tfidf = answer.verdict(both).splitlines()[2]
    for said in ("on 3 of 3 sources with frozen `embedded`, ", "on none of 3 sources with frozen `other` (worse on 3)"):
        assert said in tfidf
    assert tfidf.count("worse") == 2  # with either regime of one encoder


def test_the_difference_that_could_be_missed_is_that_to_the_closest_rival():
    tables = {("frozen", "embedded"): answer.headline(study(LAYER, SAME), "frozen")}
    sizes = 100 * answer.between(tables["frozen", "embedded"], "cnn", "token_mlp")["detectable"]
    one = (
        f"{sizes.min():.1f}"
        if f"{sizes.min():.1f}" == f"{sizes.max():.1f}"
        else f"{sizes.min():.1f} to {sizes.max():.1f}"
    )
    assert f"one of {one} points between the CNN and `token_mlp`" in answer.missed(tables)
    assert answer.missed({"none": tables["frozen", "embedded"].query("rival != 'token_mlp'")}) is None


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


@pytest.mark.parametrize(
    "rates, held",
    [
        (LAYER, "Yes, use the same head with frozen and fine-tuned `other`."),
        (SAME, "Yes, use the same head with fine-tuned `other`. No, use another head with frozen `other`."),
    ],
)
def test_the_verdict_on_two_encoders(rates, held):
    both = pd.concat([study(LAYER, SAME), study(rates, SAME, "other 87654321")])
    said = answer.verdict(both)
    assert f"people use?** {held}\n" in said
    layer, mean = (HEADS[head].label for head in ("token_mlp", "mean"))
    apart = f"- **On frozen `embedded`, use {layer}; on frozen `other`, use {mean}.** Against"
    assert apart in said if "No, use" in held else f"- **On a frozen encoder, use {layer}.**" in said
    with pytest.raises(ValueError, match="results of 2 encoders"):
        answer.headline(both, "frozen")


@pytest.mark.parametrize(
    "keys, said",
    [
        ([("frozen", "a")], "frozen `a`"),
        ([("frozen", "a"), ("fine-tuned", "b")], "frozen `a` and fine-tuned `b`"),
        ([("frozen", "a"), ("frozen", "b"), ("fine-tuned", "b")], "frozen `a` and frozen and fine-tuned `b`"),
    ],
)
def test_where_a_verdict_holds(keys, said):
    every = [(regime, encoder) for regime in ("frozen", "fine-tuned") for encoder in "ab"]
    assert answer.listed(keys, every) == said
    assert answer.listed(every[:1], dict.fromkeys(every[:2])) == "`a`"  # one regime: not named


def test_a_verdict_on_nothing_is_refused(examples):
    with pytest.raises(ValueError, match="hold no two heads with two seeds or more"):
        answer.verdict(examples)
    assert "better on every source" in answer.verdict(examples[examples["head"].ne("max")], ("a", "b", "c"))


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
