"""PyTorch, as pure functions over a dict of parameters, for `torch.func`.

    params = {"encoder": {name: tensor}, "convs": [layer, ...], "hidden_layer": layer, "classifier": layer}

where a layer is {"weight": tensor, "bias": tensor}; "hidden_layer" is there only if the model has one.
All sizes are read off the tensors.
"""

import torch
from torch.func import functional_call
from torch.nn import functional as F

from companion.encoders import DEFAULT_ENCODER
from companion.pytorch_class import BertCNN


def from_encoder(name: str = DEFAULT_ENCODER, **config):
    """(params, encoder): a pretrained encoder under a new head; `config` as in `BertCNNConfig`."""
    return from_model(BertCNN.from_encoder(name, **config))


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
    """One vector a token, in context: (B, T) -> (B, T, D)."""
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    return functional_call(encoder, params["encoder"], kwargs=inputs).last_hidden_state


def convolve(params, hidden, attention_mask):
    """ReLU of every k-token window: (B, T, D) -> K x (B, W_k, F), W_k = T - k + 1."""
    missing = max(conv["weight"].shape[-1] for conv in params["convs"]) - hidden.shape[1]
    if missing > 0:  # a text shorter than the largest kernel
        hidden = F.pad(hidden, (0, 0, 0, missing))
        attention_mask = F.pad(attention_mask, (0, missing))
    mask = attention_mask.to(hidden.dtype)  # (B, T)
    channels = (hidden * mask[..., None]).transpose(1, 2)  # (B, D, T), as conv1d wants it
    maps = []
    for conv in params["convs"]:
        k = conv["weight"].shape[-1]  # (F, D, k)
        windows = F.relu(F.conv1d(channels, **conv)).transpose(1, 2)  # (B, W_k, F)
        # does the window end inside the text? (B, W_k)
        counts = F.pad(mask[:, k:], (1, 0), value=1)
        maps.append(windows * counts[..., None])
    return maps


def pool(maps):
    """The strongest window of each filter: K x (B, W_k, F) -> (B, K*F)."""
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
