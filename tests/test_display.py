"""What notebooks show: lit-up text, as HTML and as a figure."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Rectangle

from companion import display

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
    assert "[a &lt;b&gt; <sub>+0.50</sub>]" in page and "[film <sub>-0.25</sub>]" in page
    assert "solid" in page and "dotted" in page and "<b>so:</b>" in page
