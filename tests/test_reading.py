"""tools.reading: how the web book shows tables that pandas drew. What it does to pages, test_book.py sees."""

import re
from pathlib import Path

import pandas as pd
import pytest

from tools import reading

ROOT = Path(__file__).parent.parent


def cells(html: str, kind: str) -> list[tuple[str, bool]]:
    """(text, is it marked as words) of the cells of one kind."""
    found = re.findall(rf"<{kind}([^>]*)>(.*?)</{kind}>", html)
    return [(text, 'class="words"' in attributes) for attributes, text in found]


def test_words_and_numbers_are_told_apart_column_by_column():
    columns = {"gain": ["-0.1 to 3.2", "NaN", "1"], "verdict": ["better", "cannot tell", ""], "ms": [1.5, 2, 3]}
    html = reading.align(pd.DataFrame(columns).to_html())
    assert "text-align" not in html  # the style sheet aligns by what is marked here
    assert cells(html, "td")[:3] == [("-0.1 to 3.2", False), ("better", True), ("1.5", False)]
    assert [marked for _, marked in cells(html, "th")][:4] == [False, False, True, False]


def test_the_names_of_columns_and_index_share_a_row():
    table = pd.DataFrame({"one": [1], "two": [2]}, index=pd.Index(["a"], name="head"))
    head = reading.align(table.to_html()).split("<tbody>")[0]
    assert [text for text, _ in cells(head, "th")] == ["head", "one", "two"] and head.count("<tr") == 1
    unnamed = table.rename_axis(None).to_html()
    assert reading.align(unnamed).count("<tr") == unnamed.count("<tr")


def test_columns_of_two_levels_keep_both_rows():
    columns = pd.MultiIndex.from_tuples([("frozen", "mean"), ("frozen", "cnn")])
    html = pd.DataFrame([[1, 2]], columns=columns).to_html()
    assert reading.align(html).count("<tr") == html.count("<tr")


def test_an_index_that_spans_rows_does_not_shift_the_columns():
    index = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["k", "l"])
    html = reading.align(pd.DataFrame({"said": ["yes, both", "none"], "n": [1, 2]}, index=index).to_html())
    assert cells(html, "td") == [("yes, both", True), ("1", False), ("none", True), ("2", False)]


def test_what_is_no_table_stays_as_it_is():
    text = "<p><b>positive:</b> a <mark>film</mark></p>"
    assert reading.align(text) == text


@pytest.mark.parametrize(
    "source, name",
    [
        ("# companion/pytorch_class.py: BertCNN.convolve\ndef", "companion.pytorch_class.BertCNN.convolve"),
        ("# companion/study/heads.py: matched_units\ndef", "companion.study.heads.matched_units"),
        ("# a comment\nx = 1", ""),
    ],
)
def test_the_name_of_a_shown_definition(source, name):
    assert reading.name_of(source) == name


def test_the_page_of_checks_names_tests_that_there_are():
    page = (ROOT / "notebooks" / "checked.md").read_text(encoding="utf-8")
    named = re.findall(r"\[(test_\w+\.py)\]\(\.\./tests/(test_\w+\.py)\)", page)
    assert len(named) > 15 and all(words == file and (ROOT / "tests" / file).exists() for words, file in named)
