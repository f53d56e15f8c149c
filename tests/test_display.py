"""What notebooks show: lit-up text, as HTML and as a figure."""

import re

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Rectangle

from companion import display
from companion.attribution import explain

TEXT = "Not a dull minute, although the ending is a mess."
SPANS = [(0, 17, 1.2), (19, 48, -0.5)]


def bars(fig):
    return [patch for patch in fig.axes[0].patches if isinstance(patch, Rectangle)]


@pytest.fixture
def figure():
    fig = display.lit_figure(TEXT, SPANS)
    yield fig
    plt.close(fig)


def test_a_bar_stands_under_its_words(figure):
    assert [(bar.get_x(), bar.get_width()) for bar in bars(figure)] == [(0, 17), (19, 29)]
    letters = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert letters["N"][0] == 0.5  # the first letter, over the first character's place


def test_which_way_a_bar_speaks_is_told_without_colour(figure):
    assert [bool(bar.get_hatch()) for bar in bars(figure)] == [False, True]
    assert {"+1.20", "-0.50"} <= {text.get_text() for text in figure.axes[0].texts}


def test_a_long_text_goes_on_below():
    fig = display.lit_figure(TEXT, SPANS, width=30)
    rows = {text.get_position()[1] for text in fig.axes[0].texts if len(text.get_text()) == 1}
    assert len(rows) == 2
    assert sum(bar.get_width() for bar in bars(fig)) == 17 + 29  # the second is cut in two, and none of it lost
    plt.close(fig)


@pytest.mark.parametrize("text, spans", [("", []), ("No word of it is lit.", [])])
def test_nothing_to_light_up(text, spans):
    fig = display.lit_figure(text, spans)
    assert bars(fig) == []
    plt.close(fig)


def test_html_says_in_its_text_what_it_says_in_colour():
    page = display.lit_html("a <b> film", [(0, 5, 0.5), (6, 10, -0.25)], title="so:")
    assert "[a &lt;b&gt; <sub>1</sub>]" in page and "[film <sub>2</sub>]" in page
    assert "+0.50" in page and "-0.25" in page
    assert "solid" in page and "dotted" in page and "<b>so:</b>" in page


def test_names_are_lit_up_with_their_types(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    spans = [("title", 15, 20), ("person", 0, 6)]  # in any order
    display.show_names("Bo <B> wrote a <Hat>", spans, ["person", "title"], title="so:")
    page = shown[0]["text/html"]
    assert "[Bo &lt;B&gt; <sub>person</sub>]" in page and "[&lt;Hat&gt; <sub>title</sub>]" in page
    assert page.index("person") < page.index(" wrote a ") < page.index("title") and "<b>so:</b>" in page
    colours = re.findall(r"rgba\((.*?)\)", page)
    assert len(set(colours)) == 2
    assert "so: [Bo <B> person] wrote a [<Hat> title]" in shown[0]["text/plain"]
    display.show_names("no name", [], ["person"])
    assert "no name" in shown[1]["text/html"]


def test_a_stretch_in_two_ngrams_bears_both_numbers_and_each_weight_is_listed_once():
    page = display.lit_html("not a dull film", [(0, 10, 1.5), (6, 15, -0.5)])
    assert "[not a  <sub>1</sub>]" in page and "[dull <sub>1, 2</sub>]" in page and "[ film <sub>2</sub>]" in page
    assert page.count("+1.50") == page.count("-0.50") == 1
    assert "1 not a dull" in page and "2 dull film" in page


@pytest.mark.parametrize("top", [0, 1, 3, 100])
def test_what_is_shown_of_a_decision_adds_up_to_the_difference_of_the_logits(four, top):
    text = "a warm , funny and quietly moving film , and not one minute of it is dull"
    explanation = next(explain(four.model, text, tokenizer=four.tokenizer))
    for label, against in ((0, 1), (1, 0)):
        spans, rest = display.decision_rows(explanation, label, against, top)
        assert len(spans) <= top and len({span[:2] for span in spans}) == len(spans)
        *parts, (_, total) = rest
        shown = [float(f"{value:+.2f}") for *_, value in [*spans, *parts]]
        assert sum(shown) == pytest.approx(float(f"{total:+.2f}"), abs=1e-9)
        assert total == pytest.approx(explanation.logits[label] - explanation.logits[against], abs=0.005001)
        others = sum(value for *_, value in explanation.ngrams(label, against)[top:])
        assert rest[0][1] == pytest.approx(others, abs=0.005 * (top + 3))


def test_a_decision_is_shown_with_its_class_and_probability(four, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    explanation = next(explain(four.model, "a warm film", tokenizer=four.tokenizer))
    display.show_decision(explanation, ["negative", "positive"])
    label, (data,) = ["negative", "positive"][explanation.logits.argmax()], shown
    assert data["text/plain"].startswith(f"{label} (")
    for said in data.values():
        assert "all other windows" in said and "bias" in said and "<" not in data["text/plain"]
