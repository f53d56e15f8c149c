"""The embedded corpus: what its reviews promise to whoever trains on them."""

import json
import re
from collections import Counter, defaultdict
from itertools import combinations

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from companion.files import PACKAGED

SPLITS = {"train": 1600, "validation": 400, "test": 400}
PHENOMENA = {"plain", "irony", "negation", "distance", "change", "modality", "strength", "contrast", "comparison"}


@pytest.fixture(scope="module")
def reviews():
    rows = []
    for split in SPLITS:
        for line in (PACKAGED["matinee"] / f"{split}.jsonl").read_text().splitlines():
            row = json.loads(line)
            assert list(row) == ["text", "label", "phenomenon", "pair_id"]
            rows.append(row | {"split": split, "words": re.findall(r"[a-z0-9']+", row["text"].lower())})
    return rows


def test_splits_are_balanced(reviews):
    counts = Counter((row["split"], row["label"]) for row in reviews)
    assert counts == {(split, label): n // 2 for split, n in SPLITS.items() for label in ("negative", "positive")}


def test_reviews_are_short_and_plain_ascii(reviews):
    for row in reviews:
        assert 5 <= len(row["text"].split()) <= 60, row["text"]
        assert len(re.findall(r"[.!?]+(?=[\"')]*(?:\s|$))", row["text"])) <= 3, row["text"]
        assert row["text"].isascii() and row["text"] == row["text"].strip() and "\n" not in row["text"], row["text"]


def test_the_vocabulary_is_rich(reviews):
    assert len({word for row in reviews for word in row["words"]}) >= 5000


def test_no_phrase_is_a_template(reviews):
    phrases = Counter()
    for row in reviews:
        phrases.update({tuple(row["words"][i : i + 6]) for i in range(len(row["words"]) - 5)})
    phrase, count = phrases.most_common(1)[0]
    assert count <= 4, " ".join(phrase)


def test_no_two_reviews_are_alike_but_marked_pairs(reviews):
    """Jaccard > 0.6 needs that share of the words in common, rare ones among them: only such pairs are compared."""
    sets = [set(row["words"]) for row in reviews]
    spread = Counter(word for words in sets for word in words)
    holders = defaultdict(list)
    for i, words in enumerate(sets):
        rarest_first = sorted(words, key=lambda word: (spread[word], word))
        for word in rarest_first[: len(words) - int(0.6 * len(words)) + 1]:  # reviews alike share one of these
            holders[word].append(i)
    candidates = {pair for held in holders.values() for pair in combinations(held, 2)}
    for i, j in candidates:
        if len(sets[i] & sets[j]) > 0.6 * len(sets[i] | sets[j]):
            assert reviews[i]["pair_id"] is not None, (reviews[i]["text"], reviews[j]["text"])
            assert reviews[i]["pair_id"] == reviews[j]["pair_id"], (reviews[i]["text"], reviews[j]["text"])


def test_pairs_have_both_labels_and_stay_in_one_split(reviews):
    pairs = defaultdict(list)
    for row in reviews:
        if row["pair_id"] is not None:
            pairs[row["pair_id"]].append(row)
    assert len(pairs) >= 150
    for name, rows in pairs.items():
        assert sorted(row["label"] for row in rows) == ["negative", "positive"], name
        assert len({row["split"] for row in rows}) == 1, name


def test_every_phenomenon_is_well_represented(reviews):
    counts = Counter((row["split"], row["phenomenon"]) for row in reviews)
    assert {phenomenon for _, phenomenon in counts} == PHENOMENA
    for phenomenon in PHENOMENA:
        assert counts["train", phenomenon] >= 60 and counts["test", phenomenon] >= 20, phenomenon


def test_it_is_neither_trivial_nor_impossible(reviews):
    train, test = ([row for row in reviews if row["split"] == split] for split in ("train", "test"))
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000))
    model.fit([row["text"] for row in train], [row["label"] for row in train])
    assert 0.65 <= model.score([row["text"] for row in test], [row["label"] for row in test]) <= 0.82
