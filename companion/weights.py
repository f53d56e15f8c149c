"""One set of weights in any of the four variants. The PyTorch class is the hub: every path leads through it.

The functional PyTorch form is `pytorch_functional.from_model(model)`; to_functional is its name here.
"""

import numpy as np
import torch

from companion.pytorch_class import BertCNN
from companion.pytorch_functional import from_model as to_functional  # noqa: F401

# KerasHub's names in a BertBackbone -> Hugging Face's in a BertModel, read from left to right.
BERT_NAMES = {
    "token_embedding/embeddings": "embeddings.word_embeddings/kernel",
    "position_embedding/embeddings": "embeddings.position_embeddings/kernel",
    "segment_embedding/embeddings": "embeddings.token_type_embeddings/kernel",
    "embeddings_layer_norm": "embeddings.LayerNorm",
    "transformer_layer_": "encoder.layer.",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "self_attention_layer/attention_output": "attention.output.dense",
    "self_attention_layer": "attention.self",
    "feedforward_layer_norm": "output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "pooled_dense": "pooler.dense",
    "/kernel": "/weight",
    "/gamma": "/weight",
    "/beta": "/bias",
    "/": ".",
}


def _pairs(torch_model, keras_model):
    """(PyTorch parameter, Keras variable) for every weight. Raises ValueError if the models' shapes differ."""
    backbone = next(layer for layer in keras_model.layers if hasattr(layer, "hidden_dim"))
    pairs = []
    for variable in backbone.weights:
        name = variable.path
        for theirs, ours in BERT_NAMES.items():
            name = name.replace(theirs, ours)
        pairs.append((name, variable))
    parameters = dict(torch_model.encoder.named_parameters())
    if {name for name, _ in pairs} != set(parameters):
        raise ValueError("The models differ: their encoders have not the same layers.")
    pairs = [(parameters[name], variable) for name, variable in pairs]
    names = [f"conv_{k}" for k in torch_model.config.kernel_sizes] + ["hidden_layer", "classifier"]
    modules = [*torch_model.convs, torch_model.hidden_layer, torch_model.classifier]
    names += [f"sentence_conv_{k}" for k in getattr(torch_model.config, "sentence_kernel_sizes", ())]
    modules += getattr(torch_model, "sentence_convs", ())
    head = {name: module for name, module in zip(names, modules, strict=True) if module is not None}
    twins = [layer for layer in keras_model.layers if hasattr(layer, "kernel")]
    if [layer.name for layer in twins] != list(head):
        raise ValueError(f"The models differ: one has the layers {list(head)}, one {[layer.name for layer in twins]}.")
    for module, layer in zip(head.values(), twins, strict=True):
        pairs += [(module.weight, layer.kernel), (module.bias, layer.bias)]
    for parameter, variable in pairs:
        if parameter.numel() != np.prod(variable.shape):
            raise ValueError(
                f"The models differ: {variable.path} is {variable.shape}, its twin {tuple(parameter.shape)}."
            )
    return pairs


def to_keras(torch_model: BertCNN, keras_model):
    """Copy all weights of the PyTorch class into either Keras variant, and return that.

    Keras stores a kernel with its inputs first, PyTorch with its outputs first.
    """
    for parameter, variable in _pairs(torch_model, keras_model):
        value = parameter.detach().cpu().numpy()
        variable.assign(np.reshape(value.T if variable.name == "kernel" else value, variable.shape))
    return keras_model


def from_pretrained(name, build):
    """A Keras variant with the settings and weights of a saved BERT-CNN; `build` makes it from (encoder, **config)."""
    model = BertCNN.from_pretrained(name)
    return to_keras(model, build(str(name), **model.config.head))


@torch.no_grad()
def to_pytorch(keras_model, torch_model: BertCNN) -> BertCNN:
    """Copy all weights of either Keras variant into the PyTorch class, and return that."""
    for parameter, variable in _pairs(torch_model, keras_model):
        value = variable.numpy()
        value = value.reshape(parameter.shape[::-1]).T if variable.name == "kernel" else value.reshape(parameter.shape)
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return torch_model
