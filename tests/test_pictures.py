"""The picture of the answer: every panel has its title, every difference its mark."""

import pandas as pd
import pytest

from companion.study.pictures import forest


@pytest.mark.parametrize("apart, rows", [((), 1), (("b",), 2)])
def test_each_panel_has_its_title_and_each_difference_its_mark(apart, rows):
    numbers = {"difference": [0.01, 0.2, 0.03], "low": [0.0, 0.1, 0.01], "high": [0.02, 0.3, 0.05]}
    table = pd.DataFrame({"dataset": ["a", "b", "a"], "rival": ["mean", "mean", "max"]} | numbers)
    panels = {"frozen": table, "fine-tuned": table[table["dataset"].eq("a")]}
    fig = forest(panels, {"mean": "minus mean", "max": "minus max"}, {"a": "A", "b": "B"}, apart)
    assert len(fig.axes) == rows * 2
    assert [ax.get_title() for ax in fig.axes[:2]] == list(panels)
    marks = [
        value
        for ax in fig.axes[::2]
        for line in ax.get_lines()
        for value in line.get_xdata()
        if line.get_marker() != "None"
    ]
    assert sorted(marks) == pytest.approx([1, 3, 20])
