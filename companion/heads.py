"""The comparison's heads: all that can stand between a text's token vectors and its logits.

Every head maps vectors (B, T, D) and their mask (B, T) to logits (B, C). `HEADS` names them.
"""

from functools import partial

import torch
from torch import nn

from companion import pytorch_functional
from companion.pytorch_class import glorot


def first(vectors, mask):
    """The vector of [CLS]: (B, T, D) -> (B, D) (Devlin et al. 2019, section 3.2)."""
    return vectors[:, 0]


def mean(vectors, mask):
    """The mean over the text's own tokens: (B, T, D) -> (B, D)."""
    weights = mask.to(vectors.dtype)[..., None]  # (B, T, 1)
    return (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def strongest(vectors, mask):
    """The largest value of each dimension over the text's own tokens: (B, T, D) -> (B, D)."""
    return vectors.masked_fill(mask[..., None] == 0, torch.finfo(vectors.dtype).min).amax(dim=1)


class Pooled(nn.Module):
    """One vector a text, dropout, linear; `hidden_units` puts a dense ReLU layer before it, as in `BertCNN`."""

    layers = 1

    def __init__(self, pool, width: int, num_labels: int, hidden_units: int | None = None):
        super().__init__()
        self.pool, self.linear = pool, hidden_units is None
        self.hidden_layer = nn.Sequential(nn.Linear(width, hidden_units), nn.ReLU()) if hidden_units else nn.Identity()
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(hidden_units or width, num_labels)

    def forward(self, vectors, mask):
        return self.classifier(self.dropout(self.hidden_layer(self.pool(vectors, mask))))


class CNN(nn.Module):
    """The series' own head, from `pytorch_functional`, over the last `layers` layers side by side.

    Its 300 filters are shared out among the kernel sizes; unmasked, windows of padding count like any other.
    """

    def __init__(self, width: int, num_labels: int, layers: int = 1, kernel_sizes=(3, 4, 5), masked: bool = True):
        super().__init__()
        self.layers, self.linear, self.masked = layers, False, masked
        self.convs = nn.ModuleList(nn.Conv1d(layers * width, 300 // len(kernel_sizes), k) for k in kernel_sizes)
        self.classifier = nn.Linear(300, num_labels)

    def forward(self, vectors, mask):
        if not self.masked:
            mask = torch.ones_like(mask)
        params = {"convs": [dict(conv.named_parameters()) for conv in self.convs]}
        params["classifier"] = dict(self.classifier.named_parameters())
        vectors = vectors.mT.contiguous().mT  # in memory as conv1d wants them, once: else each of three copies them
        return pytorch_functional.head(params, vectors, mask, dropout=0.5 if self.training else 0.0)


def matched_mlp(width: int, num_labels: int) -> Pooled:
    """A dense layer on the mean with as many parameters as the CNN: if that is all it takes, it does as well."""
    cnn = sum(parameter.numel() for parameter in CNN(width, num_labels).parameters())
    return Pooled(mean, width, num_labels, hidden_units=round((cnn - num_labels) / (width + 1 + num_labels)))


HEADS = {
    "cls": lambda width, num_labels: Pooled(first, width, num_labels),
    "mean": lambda width, num_labels: Pooled(mean, width, num_labels),
    "max": lambda width, num_labels: Pooled(strongest, width, num_labels),
    "mlp": matched_mlp,
    "cnn": CNN,
    "cnn_last4": lambda width, num_labels: CNN(width, num_labels, layers=4),
}
SIZES = [(1,), (3,), (4,), (5,), (3, 4), (3, 5), (4, 5)]
ABLATIONS = {  # the CNN with something else in its place, and as many filters: cnn_1, cnn_3_4, ...
    "_".join(["cnn", *map(str, sizes)]): partial(CNN, kernel_sizes=sizes) for sizes in SIZES
} | {"cnn_unmasked": partial(CNN, masked=False)}


class StaticEncoder(nn.Module):
    """A BERT's word embeddings alone: the same vector for a word wherever it stands (Kim 2014, CNN-non-static)."""

    def __init__(self, encoder):
        super().__init__()
        self.config = encoder.config
        self.embeddings = encoder.get_input_embeddings()

    def forward(self, input_ids, attention_mask, output_hidden_states=False):
        vectors = nn.functional.layer_norm(self.embeddings(input_ids), (self.config.hidden_size,))
        return {"last_hidden_state": vectors}


def token_vectors(encoder, input_ids, attention_mask, layers: int = 1):
    """The last `layers` layers of an encoder, side by side: (B, T) -> (B, T, layers*D)."""
    out = encoder(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=layers > 1)
    return out["last_hidden_state"] if layers == 1 else torch.cat(out["hidden_states"][-layers:], dim=-1)


class Classifier(nn.Module):
    """A head on an encoder; or, where its vectors are at hand already, the head alone."""

    def __init__(self, head, encoder=None):
        super().__init__()
        self.head, self.encoder = head.apply(glorot), encoder

    def forward(self, attention_mask, labels, input_ids=None, vectors=None):
        if vectors is None:
            vectors = token_vectors(self.encoder, input_ids, attention_mask, self.head.layers)
        logits = self.head(vectors, attention_mask)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
