"""The packaged corpora: what training on their reviews relies on."""

import json
import re
from collections import Counter, defaultdict
from itertools import combinations

import pytest

from companion.data import load_dataset
from companion.files import PACKAGED

SPLITS = ("train", "validation", "test", "more")
CORPORA = {
    "matinee": {
        "sizes": (3818, 408, 420, 8522),  # "more": the reviews of matinee-more, measured as if they were a fourth split
        "kinds": {"plain", "short", "negation", "contrast", "strength", "question"},
        "words": {"short": (1, 4), "": (3, 30)},
        "sentences": 2,
        "vocabulary": 2500,
    },
    "matinee-hard": {
        "sizes": (1600, 400, 400),
        "kinds": set("plain irony negation distance change modality strength contrast comparison".split()),
        "words": {"": (5, 60)},
        "sentences": 3,
        "vocabulary": 5000,
    },
}


def read(name):
    rows = []
    for split in SPLITS[: len(CORPORA[name]["sizes"])]:
        path = PACKAGED["matinee-more"] / "train.jsonl" if split == "more" else PACKAGED[name] / f"{split}.jsonl"
        for line in path.read_text().splitlines():
            row = json.loads(line)
            rows.append({"pair_id": None} | row | {"split": split, "words": words(row["text"])})
    return rows


def words(text):
    return re.findall(r"[a-z0-9']+", text.lower())


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request):
    return read(request.param), CORPORA[request.param]


@pytest.fixture(scope="module")
def hard():
    return read("matinee-hard")


def test_each_split_is_half_negative_and_half_positive(corpus):
    reviews, facts = corpus
    counts = Counter((row["split"], row["label"]) for row in reviews)
    sizes = zip(SPLITS, facts["sizes"], strict=False)
    assert counts == {(split, label): n // 2 for split, n in sizes for label in ("negative", "positive")}


def test_reviews_are_short_and_plain_ascii(corpus):
    reviews, facts = corpus
    for row in reviews:
        least, most = facts["words"].get(row["phenomenon"], facts["words"][""])
        assert least <= len(row["text"].split()) <= most, row["text"]
        assert len(re.findall(r"[.!?]+(?=[\"')]*(?:\s|$))", row["text"])) <= facts["sentences"], row["text"]
        assert row["text"].isascii() and row["text"] == row["text"].strip() and "\n" not in row["text"], row["text"]


def test_the_vocabulary_is_rich(corpus):
    reviews, facts = corpus
    assert len({word for row in reviews for word in row["words"]}) >= facts["vocabulary"]


def test_no_phrase_is_a_template(corpus):
    phrases = Counter()
    for row in corpus[0]:
        phrases.update({tuple(row["words"][i : i + 6]) for i in range(len(row["words"]) - 5)})
    phrase, count = phrases.most_common(1)[0]
    assert count <= 4, " ".join(phrase)


def test_no_two_reviews_are_alike_but_marked_pairs(corpus):
    """Jaccard > 0.6 needs that share of the words in common, rare ones among them: only such pairs are compared."""
    reviews, _ = corpus
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


def test_every_phenomenon_is_well_represented(corpus):
    reviews, facts = corpus
    counts = Counter((row["split"], row["phenomenon"]) for row in reviews)
    assert {phenomenon for _, phenomenon in counts} == facts["kinds"]
    for phenomenon in facts["kinds"]:
        assert counts["train", phenomenon] >= 60 and counts["test", phenomenon] >= 20, phenomenon


def test_the_two_corpora_share_no_review():
    plain, hard = ({" ".join(row["words"]) for row in read(name)} for name in CORPORA)
    assert not plain & hard


def test_plain_reviews_are_balanced_in_label_and_length_within_each_kind():
    kinds = defaultdict(lambda: {"negative": [], "positive": []})
    for row in read("matinee"):
        kinds[row["phenomenon"]][row["label"]].append(len(row["text"].split()))
    for kind, lengths in kinds.items():
        negative, positive = lengths["negative"], lengths["positive"]
        assert len(negative) == len(positive), kind
        assert abs(sum(negative) / len(negative) - sum(positive) / len(positive)) < 1, kind


def test_a_negation_does_not_give_the_label_away():
    """Each negator stands about as often in praise as in blame."""
    negators = r"not|no|never|nothing|nobody|none|no one|neither|nor|without|hardly|barely|nowhere|\w+n't"
    counts = defaultdict(Counter)
    for row in read("matinee"):
        if row["phenomenon"] == "negation":
            for negator in set(re.findall(rf"\b({negators})\b", row["text"].lower())):
                counts[negator][row["label"]] += 1
    frequent = {negator: both for negator, both in counts.items() if both.total() >= 16}
    assert len(frequent) >= 15
    for negator, both in frequent.items():
        assert 0.35 <= both["positive"] / both.total() <= 0.65, (negator, both)


def test_load_dataset_gives_either_by_its_name():
    for name, facts in CORPORA.items():
        splits = load_dataset(name)
        assert tuple(len(splits[split]) for split in SPLITS[:3]) == facts["sizes"][:3]
        assert splits["train"].features["label"].names == ["negative", "positive"]
    more = load_dataset("matinee-more")
    assert list(more) == ["train"] and len(more["train"]) == CORPORA["matinee"]["sizes"][3]
    assert more["train"].features["label"].names == ["negative", "positive"]


def test_pairs_have_both_labels_and_stay_in_one_split(hard):
    pairs = defaultdict(list)
    for row in hard:
        if row["pair_id"] is not None:
            pairs[row["pair_id"]].append(row)
    assert len(pairs) >= 150
    for name, rows in pairs.items():
        assert sorted(row["label"] for row in rows) == ["negative", "positive"], name
        assert len({row["split"] for row in rows}) == 1, name
