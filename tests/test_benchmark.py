"""`python -m tools.benchmark`: that it runs and prints a ratio for all it names. How fast it is, no test says."""

import re

import pytest
from transformers import AutoModel, BertConfig, DistilBertConfig

from tools import benchmark


def test_pieces_of_work_take_turns_and_the_median_round_counts(monkeypatch):
    order, clock = [], iter([9, 1, 5, 2, 1, 30])  # three rounds of two
    monkeypatch.setattr(benchmark, "seconds", lambda work: work() or next(clock))
    took = benchmark.side_by_side({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b"] * 4  # the first of each does not count
    assert took == {"a": 5, "b": 2}


@pytest.mark.parametrize(
    "part, how, names",
    [
        ("head_cost", {"batch": 1, "length": 16}, ["CNN head / encoder", "reached / matrix-multiply rate"]),
        ("training", {"texts": 40}, ["any order / grouped by length", "padded to 512 / grouped"]),
        ("caching", {"texts": 40}, ["mean, 40 texts", "encoder0, cnn, 40 texts", "bert-base size, cnn, 40 texts"]),
        ("forward", {"batch": 2, "length": 8}, ["Keras functional", "onnxruntime", "onnxruntime, int8"]),
        (
            "frameworks",
            {"batch": 2, "length": 8},
            ["PyTorch functional", "Keras class", "Keras functional", "on tensorflow", "on torch"],
        ),
    ],
)
def test_it_prints_a_ratio_for_all_it_names(random_encoder, monkeypatch, capsys, part, how, names):
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    monkeypatch.setattr(benchmark, "BertConfig", lambda **settings: BertConfig(**settings, **small))
    monkeypatch.setattr(benchmark, "seconds", lambda work: (work(), 1.0)[1])  # the machine's own time would vary
    if part != "head_cost":
        how["encoder_name"] = random_encoder
    if part in ("training", "caching"):
        how["dataset"] = "matinee"
    getattr(benchmark, part)(**how, rounds=1)
    said = capsys.readouterr().out
    for name in names:
        ratio = re.search(rf"{re.escape(name)} +([0-9.]+)", said)
        assert ratio, said
        # the head's rate is computed from the clock, and a Keras backend has a process and a clock of its own
        assert part == "head_cost" or name.startswith("on ") or float(ratio[1]) == 1, said


def test_another_encoder_than_a_bert_is_said_before_anything_is_timed(tmp_path, monkeypatch):
    tiny = DistilBertConfig(vocab_size=50, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    AutoModel.from_config(tiny).save_pretrained(tmp_path)
    monkeypatch.setattr(benchmark, "head_cost", lambda: pytest.fail("something was timed"))
    with pytest.raises(ValueError, match=r"timed with a BERT, and .* is of type 'distilbert'"):
        benchmark.main(["--encoder", str(tmp_path)])
