"""The three tasks' models: equal in both frameworks, the same wherever padding stands, ordinary models of both."""

import keras
import numpy as np
import pytest
import torch
from conftest import LONG

from companion import weights
from companion.pytorch_class import BertCNN
from companion.tasks import keras_class, pytorch_class

HEADS = {
    "document": ("DocumentCNN", {"num_labels": 3}),
    "document with hidden layer": ("DocumentCNN", {"kernel_sizes": (1, 4), "hidden_units": 7}),
    "tagging": ("TaggingCNN", {"num_labels": 5}),
    "tagging, a linear layer": ("TaggingCNN", {"num_labels": 5, "kernel_sizes": ()}),
    "tagging, windows of one token": ("TaggingCNN", {"kernel_sizes": (1,), "num_filters": 8}),
    "tagging, linear with hidden layer": ("TaggingCNN", {"kernel_sizes": (), "hidden_units": 6}),
    "summary": ("SummaryCNN", {}),
    "summary with two widths": ("SummaryCNN", {"sentence_kernel_sizes": (1, 5), "num_filters": 9, "hidden_units": 4}),
    "summary, no second convolution": ("SummaryCNN", {"sentence_kernel_sizes": (), "kernel_sizes": (2,)}),
}


class Pair:
    """One set of weights in both frameworks; NumPy in, NumPy out."""

    def __init__(self, encoder, name, config):
        torch.manual_seed(1)
        self.encoder = encoder
        self.name, self.torch = name, getattr(pytorch_class, name).from_encoder(encoder, **config)
        self.torch.classifier.weight.data *= 10  # a new output layer is small; a difference should show in the logits
        self.keras = weights.to_keras(self.torch, getattr(keras_class, name).from_encoder(encoder, **config))

    @torch.no_grad()
    def logits(self, inputs):
        """(PyTorch's, Keras's)."""
        tensors = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
        return self.torch(**tensors).logits.numpy(), np.array(self.keras(inputs))


def random_inputs(name, seed=0, tokens=9, pieces=4):
    """Documents of 1 to `pieces` pieces of 1 to `tokens` tokens; padding on the right; noise where padding stands."""
    rng = np.random.default_rng(seed)
    shape = (3, tokens) if name == "TaggingCNN" else (3, pieces, tokens)
    mask = np.arange(tokens) < rng.integers(1, tokens + 1, (*shape[:-1], 1))
    if len(shape) == 3:
        mask &= (np.arange(pieces) < np.array([pieces, 1, 2])[:, None])[..., None]
    inputs = {"input_ids": rng.integers(5, 25, shape), "attention_mask": mask}
    if name == "DocumentCNN":
        inputs["window_mask"] = mask & (rng.random(shape) < 0.7)
    return {key: array.astype(np.int32) for key, array in inputs.items()}


@pytest.fixture(scope="module", params=HEADS)
def pair(request, random_encoder):
    return Pair(random_encoder, *HEADS[request.param])


def test_both_frameworks_agree(pair):
    for seed in range(3):
        ours, theirs = pair.logits(random_inputs(pair.name, seed))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
        assert np.ptp(ours) > 0.01


@torch.no_grad()
def test_every_step_agrees_from_the_same_hidden(pair, monkeypatch):
    inputs = random_inputs(pair.name)
    tensors = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
    ids = tensors.pop("input_ids")
    hidden = torch.from_numpy(np.random.default_rng(3).normal(size=(*ids.shape, 32)).astype(np.float32))
    ours = pair.torch(**tensors, hidden=hidden).logits.numpy()
    # the Keras model looks its vectors up: input_ids are their numbers
    numbers = np.arange(ids.numel(), dtype=np.int32).reshape(ids.shape)
    flat = keras.ops.convert_to_tensor(hidden.reshape(-1, 32).numpy())
    monkeypatch.setattr(pair.keras, "embed", lambda ids, mask, training: keras.ops.take(flat, ids, axis=0))
    theirs = np.array(pair.keras({**inputs, "input_ids": numbers}))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert np.ptp(ours) > 0.01


def padded(array, axis, before, after):
    widths = [(0, 0)] * array.ndim
    widths[axis] = (before, after)
    return np.pad(array, widths)


@pytest.mark.parametrize("before, after", [(0, 5), (3, 0), (2, 4)], ids=["right", "left", "both"])
def test_padding_on_either_side_changes_nothing(pair, before, after):
    inputs = random_inputs(pair.name)
    alone = pair.logits(inputs)
    alive = inputs["attention_mask"].astype(bool)
    for axis in range(1, alive.ndim):  # tokens, and pieces
        wider = {name: padded(array, axis, before, after) for name, array in inputs.items()}
        for one, other in zip(alone, pair.logits(wider), strict=True):
            if pair.name == "TaggingCNN":
                one, other = one[alive], other[:, before : before + alive.shape[1]][alive]
            if pair.name == "SummaryCNN":
                shift = before if axis == 1 else 0
                one, other = one[alive.any(2)], other[:, shift : shift + alive.shape[1]][alive.any(2)]
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_the_order_of_the_batch_and_its_neighbours_change_nothing(pair):
    inputs = random_inputs(pair.name)
    together = pair.logits(inputs)
    back = pair.logits({name: array[::-1].copy() for name, array in inputs.items()})
    alone = pair.logits({name: array[:1] for name, array in inputs.items()})
    for one, other, first in zip(together, back, alone, strict=True):
        np.testing.assert_allclose(one, other[::-1], rtol=0, atol=1e-5)
        np.testing.assert_allclose(one[:1], first, rtol=0, atol=1e-5)


def test_weights_come_back_from_keras_unchanged(pair, random_encoder):
    target = type(pair.torch)(pair.torch.config)
    assert weights.to_pytorch(pair.keras, target) is target
    for (name, one), other in zip(pair.torch.named_parameters(), target.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_another_second_convolution_is_refused(random_encoder):
    source = pytorch_class.SummaryCNN.from_encoder(random_encoder, sentence_kernel_sizes=(3,))
    target = keras_class.SummaryCNN.from_encoder(random_encoder, sentence_kernel_sizes=(1, 3))
    with pytest.raises(ValueError, match="The models differ"):
        weights.to_keras(source, target)


def test_another_tasks_folder_is_refused(random_encoder, tmp_path):
    """Read as a text's classifier, a tagger's classes would be B- and I-."""
    classes = {0: "O", 1: "B-a", 2: "I-a"}
    pytorch_class.TaggingCNN.from_encoder(random_encoder, id2label=classes).save_pretrained(tmp_path)
    for model_class in (BertCNN, pytorch_class.DocumentCNN, pytorch_class.SummaryCNN, keras_class.DocumentCNN):
        with pytest.raises(ValueError, match="is of type 'bert_cnn_tagging'; this class reads 'bert_cnn"):
            model_class.from_pretrained(tmp_path)
    for model_class in (pytorch_class.TaggingCNN, keras_class.TaggingCNN):
        with pytest.raises(ValueError, match="is of type 'bert_cnn'; this class reads 'bert_cnn_tagging'"):
            model_class.from_pretrained()  # the package's classifier of texts


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("TaggingCNN", {"kernel_sizes": (2,)}, "odd kernel sizes"),
        ("SummaryCNN", {"sentence_kernel_sizes": (2,)}, "odd kernel sizes"),
        ("SummaryCNN", {"num_labels": 3}, "A sentence gets one score"),
    ],
)
def test_keras_refuses_the_settings_that_pytorch_refuses(pair, name, settings, message):
    for make in (getattr(keras_class, name), getattr(pytorch_class, name).from_encoder):
        with pytest.raises(ValueError, match=message):
            make(pair.keras.encoder if make is getattr(keras_class, name) else pair.encoder, **settings)


@pytest.mark.parametrize("name", ["TaggingCNN", "SummaryCNN"])
def test_a_batch_without_a_label_has_no_loss_and_no_gradient(random_encoder, name):
    inputs = {key: torch.from_numpy(array).long() for key, array in random_inputs(name).items()}
    model = getattr(pytorch_class, name).from_encoder(random_encoder)
    shape = inputs["input_ids"].shape if name == "TaggingCNN" else inputs["input_ids"].shape[:2]
    loss = model(**inputs, labels=torch.full(shape, -100)).loss
    loss.backward()
    assert loss == 0 and model.classifier.weight.grad.abs().max() == 0


def test_what_is_not_cut_into_pieces_is_refused(random_encoder):
    tokens = torch.ones((2, 5), dtype=torch.long)
    model = pytorch_class.DocumentCNN.from_encoder(random_encoder)
    for masks in ({}, {"attention_mask": tokens}, {"attention_mask": tokens[None]}):
        with pytest.raises(ValueError, match="read as pieces and their masks"):
            model(input_ids=tokens, **masks)


def test_a_taggers_vectors_may_come_without_a_mask(random_encoder):
    model, hidden = pytorch_class.TaggingCNN.from_encoder(random_encoder), torch.randn(2, 5, 32)
    with torch.no_grad():
        alone = model(hidden=hidden).logits
        assert torch.equal(alone, model(hidden=hidden, attention_mask=torch.ones(2, 5, dtype=torch.long)).logits)


def test_saved_models_come_back_with_the_same_logits(pair, tmp_path):
    inputs = random_inputs(pair.name)
    ours, theirs = pair.logits(inputs)
    pair.torch.save_pretrained(tmp_path)
    pair.keras.save(tmp_path / "model.keras")
    tensors = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
    again = type(pair.torch).from_pretrained(tmp_path)
    assert again.config.head == pair.torch.config.head
    with torch.no_grad():
        assert np.array_equal(again(**tensors).logits.numpy(), ours)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(pair.keras)
    assert np.array_equal(np.array(loaded(inputs)), theirs)
    read = type(pair.keras).from_pretrained(tmp_path)  # what PyTorch has saved
    assert type(read) is type(pair.keras) and read.settings == pair.keras.settings
    np.testing.assert_allclose(np.array(read(inputs)), theirs, rtol=0, atol=1e-6)


def test_a_short_document_gets_the_logits_of_a_sentence(four):
    document = pytorch_class.DocumentCNN(four.model.config).eval()
    document.load_state_dict(four.model.state_dict())
    inputs = four.inputs([LONG])
    tensors = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
    with torch.no_grad():
        pieces = {name: tensor[:, None] for name, tensor in tensors.items()}
        found = document(**pieces, window_mask=pieces["attention_mask"]).logits
        torch.testing.assert_close(found, four.model(**tensors).logits, rtol=0, atol=1e-6)
