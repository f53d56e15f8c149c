"""The ready-made classifier: one model in all four spellings, which reads plain sentences and never saw a test text."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import pipeline

from companion import encoders, keras_class, keras_functional, pytorch_functional
from companion.data import load_dataset
from companion.encoders import PACKAGED, load_keras_encoder, load_pytorch_encoder, load_tokenizer
from companion.pytorch_class import BertCNN
from tools import classifier

FOLDER = PACKAGED["classifier"]
OWN = [json.loads(line) for line in (Path(__file__).parent / "own_verdicts.jsonl").read_text("utf-8").splitlines()]
TEXTS = ["I hated this film.", "Not bad at all!", "", "A great movie, although the ending drags a little."]


@pytest.fixture(scope="module")
def model():
    return BertCNN.from_pretrained("classifier")


def logits_of(model, texts):
    inputs = load_tokenizer("classifier")(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits.numpy()


def test_all_four_spellings_load_it_by_name(model):
    inputs = load_tokenizer("classifier")(TEXTS, padding=True, return_tensors="pt")
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    expected = logits_of(model, TEXTS)
    assert np.ptp(expected, axis=0).max() > 1
    with torch.no_grad():
        functional = pytorch_functional.bert_cnn(*pytorch_functional.from_pretrained("classifier"), **inputs)
    np.testing.assert_allclose(functional.numpy(), expected, atol=1e-5)
    for load in (keras_class.BertCNN.from_pretrained, keras_functional.from_pretrained):
        np.testing.assert_allclose(np.array(load("classifier")(arrays)), expected, atol=1e-4)


def test_its_folder_is_an_ordinary_saved_model(model):
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    read = pipeline("text-classification", model=str(FOLDER), device=-1)
    labels = [model.config.id2label[i] for i in logits_of(model, [row["text"] for row in OWN[:10]]).argmax(1)]
    assert [found["label"] for found in read([row["text"] for row in OWN[:10]])] == labels


def test_its_encoder_can_start_another_model(model):
    for name, tensor in load_pytorch_encoder("classifier").state_dict().items():
        assert torch.equal(tensor, model.encoder.state_dict()[name]), name
    inputs = load_tokenizer("classifier")(TEXTS, padding=True, return_tensors="np")
    ids, mask = inputs["input_ids"].astype("int32"), inputs["attention_mask"].astype("int32")
    found = load_keras_encoder("classifier")({"token_ids": ids, "segment_ids": ids * 0, "padding_mask": mask})
    with torch.no_grad():
        hidden = model.encoder(torch.from_numpy(ids), torch.from_numpy(mask)).last_hidden_state.numpy()
    np.testing.assert_allclose(
        np.array(found["sequence_output"]) * mask[..., None], hidden * mask[..., None], atol=1e-4
    )


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 12_000_000


@pytest.mark.parametrize("kind, least", [("plain", 0.95), ("negated", 0.85)])
def test_it_reads_plain_verdicts(model, kind, least):
    rows = [row for row in OWN if row["kind"] == kind]
    right = [
        found == ["negative", "positive"].index(row["label"])
        for row, found in zip(rows, logits_of(model, [row["text"] for row in rows]).argmax(1), strict=True)
    ]
    assert np.mean(right) >= least, [row["text"] for row, good in zip(rows, right, strict=True) if not good]


def test_own_verdicts_are_not_in_the_corpora():
    for name in ("matinee", "matinee-more", "matinee-hard"):
        texts = {classifier.normalised(text) for rows in load_dataset(name).values() for text in rows["text"]}
        assert not texts & {classifier.normalised(row["text"]) for row in OWN}


def test_it_scores_on_matinee_what_its_card_says(model):
    rows = load_dataset("matinee")["test"]
    accuracy = (logits_of(model, list(rows["text"])).argmax(1) == np.array(rows["label"])).mean()
    stated = json.loads((FOLDER / "accuracy.json").read_text())
    assert accuracy == pytest.approx(stated["matinee"], abs=0.004) and accuracy >= 0.93


@pytest.mark.data
def test_no_training_text_stands_in_a_validation_or_test_split(in_data_folder):
    """SST-2's training split holds test sentences of rotten_tomatoes, so leaving out must be done over all corpora."""
    texts = set()
    for run in classifier.runs(json.loads((FOLDER / "training.json").read_text())):
        train, _ = classifier.prepare({name: run[name] for name in classifier.SETTINGS})
        assert len(train) == run["examples"]
        texts |= {classifier.normalised(text) for text in train["text"]}
    for name in classifier.CORPORA:
        for split, rows in load_dataset(name).items():
            if split in ("validation", "test"):
                assert not texts & {classifier.normalised(text) for text in rows["text"]}, (name, split)


@pytest.mark.data
@pytest.mark.parametrize("name, least", [("cornell-movie-review-data/rotten_tomatoes", 0.82), ("SetFit/sst2", 0.845)])
def test_it_scores_on_real_sentences_what_its_card_says(model, in_data_folder, name, least):
    rows = load_dataset(name)["test"].sort("text")
    texts = sorted(zip(rows["text"], rows["label"], strict=True), key=lambda row: len(row[0]))
    right = 0
    for start in range(0, len(texts), 64):
        some, labels = zip(*texts[start : start + 64], strict=True)
        right += (logits_of(model, list(some)).argmax(1) == labels).sum()
    stated = json.loads((FOLDER / "accuracy.json").read_text())[name]
    assert right / len(texts) == pytest.approx(stated, abs=0.003)
    assert stated >= least


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="exists, and this command did not write it"):
        classifier.main([str(tmp_path), "--average", str(FOLDER), str(FOLDER)])
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_missing_or_damaged_classifier_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(encoders.PACKAGED, "classifier", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="own 'classifier' is missing or incomplete; install the companion again"):
        BertCNN.from_pretrained("classifier")
    copy = tmp_path / "copy"
    shutil.copytree(FOLDER, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    monkeypatch.setitem(encoders.PACKAGED, "classifier", copy)
    for load in (BertCNN.from_pretrained, keras_class.BertCNN.from_pretrained, load_tokenizer):
        with pytest.raises(ValueError, match=r"model.safetensors of 'classifier' is damaged or cut short"):
            load("classifier")
