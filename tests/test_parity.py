"""The four variants compute the same numbers, step by step, and learn the same way."""

import keras
import numpy as np
import pytest
import torch
import transformers
from conftest import LONG, STEPS, TEXTS, VARIANTS, assert_same
from torch.nn import functional as F

from companion import keras_class, keras_functional, pytorch_functional, weights
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN

CONFIGS = [{}, {"hidden_units": 300}, {"kernel_sizes": (1, 2, 7), "num_filters": 6, "num_labels": 6, "hidden_units": 5}]
KERAS = {"class": keras_class.BertCNN.from_encoder, "functional": keras_functional.build_bert_cnn}


@pytest.mark.parametrize("config", CONFIGS, ids=["article", "article with hidden layer", "other"])
def test_every_step_agrees(build_four, encoder, config):
    four = build_four(encoder, **config)
    inputs = four.inputs(TEXTS)
    reference = four.steps("pytorch_class", inputs)
    kernels, batch, length = config.get("kernel_sizes", (3, 4, 5)), len(TEXTS), inputs["input_ids"].shape[1]
    assert [windows.shape[:2] for windows in reference["maps"]] == [(batch, length) for _ in kernels]
    assert reference["logits"].shape == (batch, config.get("num_labels", 2))
    for variant in VARIANTS[1:]:
        steps = four.steps(variant, inputs)
        assert set(steps) == set(STEPS)
        assert_same(reference, steps, 1e-4, f"end to end, {variant}")
        head = four.head(variant, reference["hidden"], inputs["attention_mask"])
        assert_same(reference, head, 1e-5, f"from the same hidden, {variant}")


@pytest.mark.parametrize("texts", [[""], ["dull"], [LONG]], ids=["no word", "one word", "many words"])
def test_every_step_agrees_on_a_batch_of_one(build_four, random_encoder, texts):
    four = build_four(random_encoder, **CONFIGS[2])  # its largest kernel is wider than the first two texts
    inputs = four.inputs(texts)
    for variant in VARIANTS[1:]:
        assert_same(four.steps("pytorch_class", inputs), four.steps(variant, inputs), 1e-4, variant)


def test_predict_gives_what_a_call_gives(four):
    inputs = four.inputs(TEXTS)
    for model in (four.keras_class, four.keras_functional):
        np.testing.assert_allclose(model.predict(inputs, verbose=0), np.array(model(inputs)), atol=1e-5)


def test_the_comparison_can_fail(four, monkeypatch):
    inputs = four.inputs(TEXTS)
    right = four.steps("keras_class", inputs)
    monkeypatch.setattr(four.model, "pool", lambda maps: torch.cat([windows.mean(dim=1) for windows in maps], dim=1))
    with pytest.raises(AssertionError, match="the step 'features' differs"):
        assert_same(right, four.steps("pytorch_class", inputs), 1e-4)


@pytest.mark.parametrize("build", KERAS.values(), ids=KERAS)
@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[2]], ids=["article", "other"])
def test_weights_come_back_from_keras_unchanged(random_encoder, build, config):
    source, target = (BertCNN.from_encoder(random_encoder, **config) for _ in range(2))
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.fill_(7.0)
    returned = weights.to_pytorch(weights.to_keras(source, build(random_encoder, **config)), target)
    assert returned is target
    for (name, one), other in zip(source.named_parameters(), target.parameters(), strict=True):
        assert torch.equal(one, other), name


MISMATCHES = {
    "filters": ({"num_filters": 4}, {"num_filters": 5}),
    "kernel sizes": ({"kernel_sizes": (2, 3)}, {"kernel_sizes": (2, 4)}),
    "one kernel size more": ({"kernel_sizes": (2, 3)}, {"kernel_sizes": (2, 3, 4)}),
    "order of kernel sizes": ({"kernel_sizes": (2, 3)}, {"kernel_sizes": (3, 2)}),
    "classes": ({"num_labels": 2}, {"num_labels": 3}),
    "no hidden layer in Keras": ({"hidden_units": 8}, {}),
    "no hidden layer in PyTorch": ({}, {"hidden_units": 300}),  # as wide as the features: every shape still fits
}


@pytest.mark.parametrize("build", KERAS.values(), ids=KERAS)
@pytest.mark.parametrize("ours, theirs", MISMATCHES.values(), ids=MISMATCHES)
def test_models_that_differ_are_refused(random_encoder, build, ours, theirs):
    source, target = BertCNN.from_encoder(random_encoder, **ours), build(random_encoder, **theirs)
    before = [variable.numpy() for variable in target.weights]
    for copy in (lambda: weights.to_keras(source, target), lambda: weights.to_pytorch(target, source)):
        with pytest.raises(ValueError, match="The models differ"):
            copy()
    assert all(np.array_equal(old, new.numpy()) for old, new in zip(before, target.weights, strict=True))


@pytest.mark.parametrize("layers", [1, 3])
def test_encoders_that_differ_are_refused(four, random_encoder, layers):
    source = BertCNN.from_encoder(random_encoder)
    config = type(source.config)(
        **source.config.head, encoder_config=source.config.encoder_config.to_dict() | {"num_hidden_layers": layers}
    )
    for target in (four.keras_class, four.keras_functional):
        with pytest.raises(ValueError, match="The models differ"):
            weights.to_keras(BertCNN(config), target)


def train_pytorch_class(model, batches):
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.05)
    for inputs, labels in batches:
        loss = model(**inputs, labels=labels).loss
        yield loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train_pytorch_functional(model, batches):
    params, encoder = pytorch_functional.from_model(model)

    def loss_of(params, inputs, labels):
        return F.cross_entropy(pytorch_functional.bert_cnn(params, encoder, **inputs), labels)

    for inputs, labels in batches:
        gradients, loss = torch.func.grad_and_value(loss_of)(params, inputs, labels)
        yield loss.item()
        params = torch.utils._pytree.tree_map(lambda p, g: p - 0.05 * g, params, gradients)


def train_keras(model, batches):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss, run_eagerly=True)  # five steps are over before a graph is traced
    for inputs, labels in batches:
        model.reset_metrics()
        yield float(model.train_on_batch({name: t.numpy() for name, t in inputs.items()}, labels.numpy()))


@pytest.mark.parametrize("num_labels", [2, 5, 6])
@pytest.mark.parametrize("hidden_units", [None, 300])
@pytest.mark.parametrize("seed", [0, 1])
def test_training_starts_near_the_loss_of_a_uniform_guess(num_labels, hidden_units, seed):
    config = {"num_labels": num_labels, "hidden_units": hidden_units}
    transformers.set_seed(seed)
    keras.utils.set_random_seed(seed)
    inputs = load_tokenizer("embedded")(TEXTS * num_labels, padding=True, return_tensors="pt")
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    model = BertCNN.from_encoder("embedded", **config)
    with torch.no_grad():
        logits = [model(**inputs).logits, pytorch_functional.bert_cnn(*pytorch_functional.from_model(model), **inputs)]
    logits += [torch.from_numpy(np.array(build("embedded", **config)(arrays))) for build in KERAS.values()]
    labels = torch.arange(num_labels).repeat_interleave(len(TEXTS))
    for found in logits:
        assert found.abs().max() > 0  # small, and not nothing: the convolutions learn from the first step
        assert abs(F.cross_entropy(found, labels).item() - np.log(num_labels)) < 0.02


def test_the_four_learn_in_lockstep():
    config = {"dropout": 0.0, "num_filters": 20}
    torch.manual_seed(2)
    model = BertCNN.from_encoder("embedded", **config)
    model.classifier.weight.data *= 100  # plain gradient descent would take more than five steps from a small start
    assert model.encoder.config.hidden_dropout_prob == 0  # or the four would draw different noise
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(5):
        ids, lengths = rng.integers(5, 1000, (8, 20)), rng.integers(1, 21, 8)
        mask = (np.arange(20) < lengths[:, None]).astype(np.int64)
        inputs = {"input_ids": torch.from_numpy(ids * mask), "attention_mask": torch.from_numpy(mask)}
        batches.append((inputs, torch.from_numpy(rng.integers(0, 2, 8))))
    twins = [weights.to_keras(model, build("embedded", **config)) for build in KERAS.values()]
    losses = [train_pytorch_functional(model, batches), *(train_keras(twin, batches) for twin in twins)]
    losses = [list(steps) for steps in losses]  # before the class itself is trained: the three start from its weights
    losses.append(list(train_pytorch_class(model, batches)))
    np.testing.assert_allclose(losses, np.broadcast_to(losses[-1], (4, 5)), rtol=0, atol=1e-3)
    assert np.ptp(losses[-1]) > 0.01  # they did learn, so the agreement says something
