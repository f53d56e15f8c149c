"""The assets' cards say what the files of measurements say, about the weights that are there."""

import re

import pandas as pd
import pytest

from companion.study.experiment import encoder_identity
from companion.study.recipes import protocol
from companion.study.results import read_table
from tools import cards


@pytest.mark.parametrize("card", cards.CARDS, ids=lambda path: path.parent.name)
def test_every_number_comes_from_a_file(card):
    assert cards.stamped(card) == card.read_text(encoding="utf-8"), "python -m tools.cards stamps them"


def test_the_measured_encoder_is_the_shipped_one():
    rows = pd.read_csv(cards.RESULTS / "heads.csv")
    assert encoder_identity("embedded") in set(rows["encoder"])
    assert sum(name.startswith("embedded ") for name in set(rows["encoder"])) == 1


def test_the_heads_were_trained_by_the_recipes_that_are_here():
    (found,) = set(read_table(cards.RESULTS / "heads.csv")["recipe"].str.split("-").str[0])
    assert found == protocol("bf16")


def test_a_changed_number_is_noticed(tmp_path, monkeypatch):
    card = next(iter(cards.CARDS))
    text = card.read_text(encoding="utf-8")
    copy = tmp_path / "README.md"
    copy.write_text(text.replace("million tokens", "billion tokens"), encoding="utf-8")
    monkeypatch.setattr(cards, "CARDS", {copy: cards.CARDS[card]})
    assert cards.stamped(copy) != copy.read_text(encoding="utf-8")


def test_the_picture_shows_what_it_says():
    description = re.search("<dc:description>(.*?)</dc:description>", cards.PICTURE.read_text("utf-8"))[1]
    assert description == cards.described(), "python -m tools.cards draws it"
