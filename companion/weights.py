"""One set of weights in any of the four variants. The PyTorch class is the hub: every path leads through it.

The functional PyTorch form is `pytorch_functional.from_model(model)`; to_functional is its name here.
"""

import numpy as np
import torch

from companion.keras_encoder import copy, head_twins, twins
from companion.pytorch_class import BertCNN
from companion.pytorch_functional import from_model as to_functional  # noqa: F401
from companion.quiet import keras


def _pairs(torch_model, keras_model):
    """(PyTorch parameter, Keras variable) for every weight. Raises ValueError if the models' shapes differ."""
    backbone = next(layer for layer in keras_model.layers if hasattr(layer, "hidden_dim"))
    pairs = twins(torch_model.encoder, backbone) + head_twins(torch_model, keras_model)
    for parameter, variable in pairs:
        if parameter.numel() != np.prod(variable.shape):
            raise ValueError(f"The models differ: {variable.path} does not fit the shape {tuple(parameter.shape)}.")
    return pairs


def to_keras(torch_model: BertCNN, keras_model):
    """Copy all weights of the PyTorch class into either Keras variant, and return that."""
    for parameter, variable in _pairs(torch_model, keras_model):
        copy(parameter, variable)
    return keras_model


@torch.no_grad()
def to_pytorch(keras_model, torch_model: BertCNN) -> BertCNN:
    """Copy all weights of either Keras variant into the PyTorch class, and return that."""
    for parameter, variable in _pairs(torch_model, keras_model):
        value = np.float32(keras.ops.convert_to_numpy(variable))  # PyTorch does not know NumPy's bfloat16
        value = value.reshape(parameter.shape[::-1]).T if variable.name == "kernel" else value.reshape(parameter.shape)
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return torch_model
