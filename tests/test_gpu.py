"""On a GPU the model gives the CPU's numbers, trains and is explained: `make gpu`, skipped where there is none.

Other tests hide the GPU (conftest.py), so that they are the same everywhere; COMPANION_GPU=1 shows it.
"""

import copy

import numpy as np
import pytest
import torch
from conftest import TEXTS
from torch.nn import functional as F

from companion import pytorch_functional
from companion.attribution import explain
from companion.pytorch_class import BertCNN

WORDS = [text for text in TEXTS if text]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no GPU that PyTorch can use, or COMPANION_GPU=1 is not set"
    ),
]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Convolutions in single precision: by default cuDNN rounds their inputs to 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def models(encoder):
    """One model with the same weights on the CPU and on the GPU."""
    torch.manual_seed(0)
    on_cpu = BertCNN.from_encoder(encoder, dropout=0.0)
    on_cpu.classifier.weight.data *= 100  # a new output layer is small; a difference should show in the logits
    return on_cpu, copy.deepcopy(on_cpu).to("cuda")


def on(device, four):
    return {name: torch.from_numpy(ids).long().to(device) for name, ids in four.inputs(TEXTS).items()}


@pytest.fixture
def inputs(build_four, encoder):
    four = build_four(encoder)
    return {device: on(device, four) for device in ("cpu", "cuda")}


@torch.no_grad()
def test_the_logits_are_those_of_the_cpu(models, inputs):
    on_cpu, on_gpu = models
    expected = on_cpu(**inputs["cpu"]).logits
    logits = on_gpu(**inputs["cuda"]).logits
    assert logits.is_cuda
    torch.testing.assert_close(logits.cpu(), expected, atol=1e-3, rtol=0)
    params, encoder = pytorch_functional.from_model(copy.deepcopy(on_gpu))
    functional = pytorch_functional.bert_cnn(params, encoder, **inputs["cuda"])
    torch.testing.assert_close(functional.cpu(), expected, atol=1e-3, rtol=0)


def losses_of(model, inputs, autocast=False):
    """The losses of ten steps of gradient descent."""
    labels = torch.tensor([1, 0, 1, 0], device=model.device)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(10):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(**inputs).logits.float(), labels)
        yield loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_training_takes_the_steps_of_the_cpu(models, inputs):
    on_cpu, on_gpu = (list(losses_of(copy.deepcopy(m), inputs[m.device.type])) for m in models)
    np.testing.assert_allclose(on_gpu[:5], on_cpu[:5], atol=1e-2)
    assert on_gpu[-1] < on_gpu[0]


def test_training_in_bfloat16_learns(models, inputs):
    losses = list(losses_of(copy.deepcopy(models[1]), inputs["cuda"], autocast=True))
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_an_explanation_is_that_of_the_cpu(models, build_four, encoder):
    tokenizer = build_four(encoder).tokenizer
    on_cpu, on_gpu = (list(explain(model, WORDS, tokenizer=tokenizer)) for model in models)
    for one, other in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_allclose(other.values, one.values, atol=1e-3)
        np.testing.assert_allclose(other.bias + other.values.sum(axis=1), other.logits, atol=1e-4)
