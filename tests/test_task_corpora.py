"""The packaged corpora of names and of summaries: what their datasheets promise."""

import re
from collections import Counter
from itertools import combinations

import pytest

from companion.tasks.data import load
from companion.tasks.tagging import spans

LABELS = {"person", "title", "place", "time"}


def six_words(texts):
    counts = Counter()
    for text in texts:
        words = re.findall(r"[a-z0-9']+", text.lower())
        counts.update({tuple(words[i : i + 6]) for i in range(len(words) - 5)})
    return counts


@pytest.fixture(scope="module")
def listings():
    return load("listings")


@pytest.fixture(scope="module")
def articles():
    return load("articles")


def test_listings_have_valid_tags_and_enough_spans(listings):
    assert {split: len(rows) for split, rows in listings.items()} == {"train": 440, "validation": 90, "test": 185}
    spans = Counter()
    for rows in listings.values():
        for row in rows:
            assert len(row["tokens"]) == len(row["ner_tags"])
            for before, tag in zip(["O", *row["ner_tags"]], row["ner_tags"], strict=False):
                assert tag == "O" or tag[2:] in LABELS
                assert not tag.startswith("I-") or before[2:] == tag[2:], row["tokens"]
            spans.update(tag[2:] for tag in row["ner_tags"] if tag.startswith("B-"))
    assert set(spans) == LABELS and min(spans.values()) >= 450


def test_names_of_the_test_split_are_new(listings):
    def names(split):
        found = set()
        for row in listings[split]:
            for label, start, end in spans(row["ner_tags"]):
                if label in ("person", "title"):
                    found.add((label, " ".join(row["tokens"][start:end]).lower()))
        return found

    test = names("test")
    assert len(test - names("train")) >= 0.95 * len(test)


def test_no_listing_is_a_template_or_a_near_duplicate(listings):
    texts = [" ".join(row["tokens"]) for rows in listings.values() for row in rows]
    assert max(six_words(texts).values()) <= 4
    words = [set(re.findall(r"[a-z0-9']+", text.lower())) for text in texts]
    for one, other in combinations(words, 2):
        assert len(one & other) <= 0.6 * len(one | other), (one, other)


def test_articles_have_two_or_three_key_sentences_in_all_places(articles):
    assert {split: len(rows) for split, rows in articles.items()} == {"train": 100, "validation": 20, "test": 40}
    keys, lead = 0, 0
    for rows in articles.values():
        for row in rows:
            assert 8 <= len(row["sentences"]) == len(row["key"]) <= 14
            assert sum(row["key"]) in (2, 3) and set(row["key"]) == {0, 1}
            keys, lead = keys + sum(row["key"]), lead + sum(row["key"][:2])
    assert lead / keys < 0.5  # the first two sentences are no summary


def test_no_article_is_a_template(articles):
    assert max(six_words(" ".join(row["sentences"]) for rows in articles.values() for row in rows).values()) <= 4
