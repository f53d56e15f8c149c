"""PyTorch, as pure functions over a dict of parameters, for `torch.func`.

    params = {"encoder": {name: tensor}, "convs": [layer, ...], "hidden_layer": layer, "classifier": layer}

where a layer is {"weight": tensor, "bias": tensor}; "hidden_layer" is there only if the model has one.
All sizes are read off the tensors.
"""

import torch
from torch.func import functional_call
from torch.nn import functional as F

from companion.encoders import DEFAULT_ENCODER
from companion.pytorch_class import BertCNN, take


def from_encoder(name: str = DEFAULT_ENCODER, **config):
    """(params, encoder): a pretrained encoder under a new head; `config` as in `BertCNNConfig`."""
    return from_model(BertCNN.from_encoder(name, **config))


def from_pretrained(name="classifier"):
    """(params, encoder) of a BERT-CNN that the PyTorch class has saved, or of the package's own "classifier"."""
    return from_model(BertCNN.from_pretrained(name))


def from_model(model: BertCNN):
    """(params, encoder): copies of the model's parameters, and its encoder, whose own are no longer used."""

    def layer(module):
        return {name: tensor.detach().clone() for name, tensor in module.named_parameters()}

    params = {
        "encoder": layer(model.encoder),
        "convs": [layer(conv) for conv in model.convs],
        "classifier": layer(model.classifier),
    }
    if model.hidden_layer is not None:
        params["hidden_layer"] = layer(model.hidden_layer)
    return params, model.encoder.eval()  # eval: nothing here would switch the encoder's dropout off


def embed(params, encoder, input_ids, attention_mask):
    """One vector per token, in context: (B, T) -> (B, T, D)."""
    # text first, padding last: BERT counts positions from 0, wherever the padding is
    order = attention_mask.argsort(dim=1, descending=True, stable=True)
    inputs = {"input_ids": take(input_ids, order), "attention_mask": take(attention_mask, order)}
    hidden = functional_call(encoder, params["encoder"], kwargs=inputs).last_hidden_state
    return take(hidden, order.argsort(dim=1))


def convolve(params, hidden, attention_mask):
    """ReLU of the k-token window that starts at each token: (B, T, D) -> K x (B, T, F)."""
    mask = attention_mask.to(hidden.dtype)  # (B, T)
    first = mask * (1 - F.pad(mask, (1, -1)))  # 1 at the text's first token
    channels = (hidden * mask[..., None]).transpose(1, 2)  # (B, D, T), as conv1d wants it
    maps = []
    for conv in params["convs"]:
        k = conv["weight"].shape[-1]  # (F, D, k)
        windows = F.relu(F.conv1d(F.pad(channels, (0, k - 1)), **conv)).transpose(1, 2)  # (B, T, F)
        # a window counts if it lies within the text, or if it is the text's first (B, T)
        window_mask = torch.maximum(first, mask * F.pad(mask, (0, k - 1))[:, k - 1 :])
        maps.append(windows * window_mask[..., None])
    return maps


def pool(maps):
    """The strongest window of each filter: K x (B, T, F) -> (B, K*F)."""
    return torch.cat([windows.amax(dim=1) for windows in maps], dim=1)


def classify(params, features, dropout=0.0):
    """Dropout, the hidden layer if there is one, linear: (B, K*F) -> (B, C)."""
    features = F.dropout(features, dropout, training=dropout > 0)
    if "hidden_layer" in params:
        features = F.relu(F.linear(features, **params["hidden_layer"]))
    return F.linear(features, **params["classifier"])


def head(params, hidden, attention_mask, dropout=0.0):
    """From token vectors to logits, (B, T, D) -> (B, C): the part that `torch.func.vmap` can map over."""
    maps = convolve(params, hidden, attention_mask)
    features = pool(maps)
    return classify(params, features, dropout)


def bert_cnn(params, encoder, input_ids, attention_mask, dropout=0.0):
    """Logits (B, C). Dropout is what you pass: a share in training, nothing (0) in use."""
    hidden = embed(params, encoder, input_ids, attention_mask)
    return head(params, hidden, attention_mask, dropout)
