"""`python -m tools.rates`, and that the committed rates have what notebook 14 reads. How fast it is, no test says."""

import json

import pytest

from companion.export import graph
from tools import rates


def test_the_committed_rates_have_all_that_is_planned_with():
    measured = json.loads(rates.FILE.read_text(encoding="utf-8"))
    core = next(found for name, found in measured.items() if name.startswith("one core"))
    assert {row["way"] for row in core["runtimes"]} >= {"PyTorch", "onnxruntime", "onnxruntime, int8"}
    for found in measured.values():
        assert {(row["encoder"], row["tokens"]) for row in found["encoders"]} == {
            (encoder, tokens) for encoder in rates.ENCODERS for tokens in rates.LENGTHS
        }
        assert all(row["texts_per_second"] > 0 and 0 < row["head_share"] < 1 for row in found["encoders"])


def test_operations_are_those_of_bert_base():
    """Kaplan et al. 2020: two for each weight and token; and attention's two products."""
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072)
    assert rates.flops(12, 768, 128) == 2 * 128 * weights + 12 * 4 * 128**2 * 768


def test_rows_of_other_hardware_stay(tmp_path, monkeypatch):
    file = tmp_path / "rates.json"
    file.write_text('{"a GPU": {}}')
    monkeypatch.setattr(rates, "runtimes", lambda texts: [{"way": "PyTorch", "texts": len(texts)}])
    monkeypatch.setattr(rates, "ENCODERS", {"small": (1, 32, 2)})
    rates.main([str(file)])
    written = json.loads(file.read_text("utf-8"))
    assert written.pop("a GPU") == {}
    (found,) = written.values()
    assert found["runtimes"][0]["texts"] == 140
    assert [row["tokens"] for row in found["encoders"]] == list(rates.LENGTHS)


def test_a_missing_library_is_said_first(monkeypatch, tmp_path):
    monkeypatch.setattr(graph, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="Export needs onnx, onnxruntime, onnxscript"):
        rates.main([str(tmp_path / "rates.json")])
