"""`examples/train.py`: both frameworks learn from a folder, say how well, and leave a model that loads again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN
from companion.quiet import keras

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("framework, saved", [("pytorch", "model"), ("keras", "model.keras")])
def test_training_by_the_documented_command(framework, saved, random_encoder, tmp_path):
    rows = [{"text": f"{word} film , not dull", "label": word} for word in ("good", "bad")]
    for split, times in (("train", 200), ("test", 20)):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * times))
    command = [sys.executable, "examples/train.py", framework, str(tmp_path), "--encoder", random_encoder]
    command += ["--epochs", "4", "--out", str(tmp_path / saved)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].endswith("test accuracy 100.0%; always the most frequent class: 50.0%")
    inputs = load_tokenizer(random_encoder)(["good film , not dull"], return_tensors="np")
    if framework == "keras":
        logits = keras.saving.load_model(tmp_path / saved)(dict(inputs))
    else:
        logits = BertCNN.from_pretrained(tmp_path / saved)(**inputs.convert_to_tensors("pt")).logits
    assert logits[0, 1] > logits[0, 0]  # "bad" is 0, "good" 1: names in alphabetical order
