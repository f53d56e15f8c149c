"""`python -m tools.pretrain`: a folder that everything loads, the same one however often it was interrupted."""

import errno
import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from companion.encoders import load_keras_encoder, load_pytorch_encoder, load_tokenizer
from companion.files import PACKAGED
from tools import pretrain

SMALL = ["--steps", "6", "--layers", "1", "--width", "64", "--vocabulary", "300", "--save-every", "2"]


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory) -> str:
    """Real text, as the unlabelled split; a sign that no other text has, in the test split."""
    folder = tmp_path_factory.mktemp("texts")
    reviews = [json.loads(line)["text"] for line in (PACKAGED["matinee-hard"] / "train.jsonl").read_text().splitlines()]
    rows = [{"text": text + "<br />", "label": -1} for text in reviews]
    (folder / "unsupervised.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "test.jsonl").write_text(json.dumps({"text": "\u00a7 " * 50, "label": 1}) + "\n")
    return str(folder)


@pytest.fixture(scope="module")
def pretrained(text_folder, tmp_path_factory) -> Path:
    """By the documented command, in a process of its own."""
    out = tmp_path_factory.mktemp("pretrained")
    command = [sys.executable, "-m", "tools.pretrain", text_folder, str(out), *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(pretrain.__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "of masked held-out tokens named" in done.stdout
    return out


def parameters(folder):
    return load_file(folder / "model.safetensors")


def same(one, other):
    one, other = parameters(one), parameters(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_everything_loads_the_folder_and_agrees(pretrained):
    tokenizer = transformers.AutoTokenizer.from_pretrained(pretrained)
    inputs = tokenizer(["abc def", "a"], padding=True, return_tensors="pt")
    mask = inputs["attention_mask"]
    encoder = transformers.AutoModel.from_pretrained(pretrained).eval()
    assert encoder.dtype == torch.float32
    with torch.no_grad():
        hidden = encoder(**inputs).last_hidden_state * mask[..., None]
        ours = load_pytorch_encoder(str(pretrained))(inputs["input_ids"], mask).last_hidden_state * mask[..., None]
    twin = load_keras_encoder(str(pretrained))
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    keras_hidden = twin({name: inputs[theirs].numpy() for name, theirs in names.items()})["sequence_output"]
    torch.testing.assert_close(ours, hidden, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.array(keras_hidden) * mask.numpy()[..., None], hidden, atol=1e-4)
    assert hidden.abs().max() > 0.1


def test_the_folder_says_how_it_was_made(pretrained, text_folder):
    facts = json.loads((pretrained / "pretraining.json").read_text())
    assert (facts["steps"], facts["tokens"], facts["seed"]) == (6, 6 * pretrain.BLOCK, 0)
    assert text_folder.endswith(facts["data"])
    assert 0 <= facts["masked_accuracy"] <= 1


def test_the_vocabulary_is_the_tokenizers_and_knows_no_test_split(pretrained):
    tokenizer = load_tokenizer(str(pretrained))
    vocabulary = (pretrained / "vocab.txt").read_text().splitlines()
    assert vocabulary == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert vocabulary[:5] == pretrain.SPECIAL and len(vocabulary) <= 300
    assert not any("\u00a7" in token for token in vocabulary)
    assert not any("<" in token for token in vocabulary)  # nor line-break tags
    ids = tokenizer("Abc")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert ids == tokenizer("abc")["input_ids"] and tokenizer.unk_token_id not in ids


def test_an_interrupted_run_goes_on_to_the_same_weights(pretrained, text_folder, tmp_path, monkeypatch):
    begun, step = [], pretrain.Trainer.training_step

    def stop_in_the_fourth(self, *args, **kwargs):
        begun.append(self.state.global_step + 1)
        if begun == [1, 2, 3, 4]:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(pretrain.Trainer, "training_step", stop_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main([text_folder, str(tmp_path), *SMALL])
    assert not (tmp_path / "model.safetensors").exists()
    pretrain.main([text_folder, str(tmp_path), *SMALL])
    assert begun == [1, 2, 3, 4, 3, 4, 5, 6]  # on from the checkpoint after step 2
    assert same(pretrained, tmp_path)


def test_a_full_disk_costs_no_checkpoint(pretrained, text_folder, tmp_path, monkeypatch):
    save = pretrain.Trainer._save_optimizer_and_scheduler

    def fill_the_disk(self, folder):
        save(self, folder)
        if folder.endswith("-4"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(pretrain.Trainer, "_save_optimizer_and_scheduler", fill_the_disk)
        full.setattr(pretrain.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
        with pytest.raises(ValueError, match=r"The disk is full. .* last good checkpoint: .*checkpoint-2"):
            pretrain.main([text_folder, str(tmp_path), *SMALL])
    pretrain.main([text_folder, str(tmp_path), *SMALL])
    assert same(pretrained, tmp_path)


def test_each_epoch_masks_other_words_and_the_same_ones_when_run_again(pretrained):
    collate = pretrain.MaskedRows(load_tokenizer(str(pretrained)), mlm_probability=0.2)
    block = [{"tokens": np.full(pretrain.BLOCK, 7, np.uint16)}]
    first = collate(block)["labels"]
    again = collate(block)["labels"]
    collate.on_epoch_begin(None, SimpleNamespace(epoch=1.0), None)
    assert torch.equal(first, again)
    second = collate(block)["labels"]
    assert first.shape != second.shape or not torch.equal(first, second)


def test_word_vectors_of_text_without_structure_are_numbers():
    assert np.isfinite(pretrain.ppmi_vectors(np.full((4, pretrain.BLOCK), 7, np.uint16), 64, 8)).all()


def test_a_seed_decides_the_weights(pretrained, text_folder, tmp_path):
    pretrain.main([text_folder, str(tmp_path / "same"), *SMALL])
    pretrain.main([text_folder, str(tmp_path / "other"), *SMALL, "--seed", "1"])
    assert same(pretrained, tmp_path / "same")
    assert not same(pretrained, tmp_path / "other")


def test_other_settings_in_the_same_folder_are_refused(pretrained, text_folder):
    before = parameters(pretrained)
    with pytest.raises(ValueError, match=r"belongs to a run with other settings .*; give another folder"):
        pretrain.main([text_folder, str(pretrained), *SMALL, "--width", "128"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in parameters(pretrained).items())


def test_a_refusal_by_command_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "train.jsonl").write_text('{"text": " "}\n')
    monkeypatch.setattr(sys, "argv", ["pretrain", str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="holds no text in the splits"):  # Python prints the sentence, and no traceback
        runpy.run_path(pretrain.__file__, run_name="__main__")


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"text": " "}], "holds no text in the splits"),
        ([{"text": "a few words"}], "tokens of text are too few to pretrain on; at least"),
        ([{"sentence": "a few words"}], "has no split 'train' with a column 'text'"),
    ],
    ids=["no text", "too little text", "no column text"],
)
def test_a_corpus_that_teaches_nothing_is_refused(tmp_path, rows, message):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=message):
        pretrain.main([str(data), str(out), *SMALL])
    assert not (out / "model.safetensors").exists()
