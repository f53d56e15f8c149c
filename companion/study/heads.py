"""The comparison's heads: everything that stands between a text's token vectors and its logits.

Every head maps vectors (B, T, D) and their mask (B, T) to logits (B, C). `make` builds one by its name in `HEADS`.
"""

import torch
from torch import nn

from companion import pytorch_functional
from companion.pytorch_class import glorot
from companion.study.specs import HEADS, MATCHED


def first(vectors, mask):
    """The vector of [CLS], the text's first token: (B, T, D) -> (B, D) (Devlin et al. 2019, section 3.2)."""
    return vectors[torch.arange(len(vectors), device=vectors.device), mask.argmax(dim=1)]


def mean(vectors, mask):
    """The mean over the text's own tokens: (B, T, D) -> (B, D)."""
    weights = mask.to(vectors.dtype)[..., None]  # (B, T, 1)
    return (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def max_pool(vectors, mask):
    """The largest value of each dimension over the text's own tokens: (B, T, D) -> (B, D)."""
    return vectors.masked_fill(mask[..., None] == 0, torch.finfo(vectors.dtype).min).amax(dim=1)


POOLS = {"first": first, "mean": mean, "strongest": max_pool}  # results hold a checksum of these names


class Pooled(nn.Module):
    """One vector per text, dropout, linear; `hidden_units` puts a dense ReLU layer before the dropout."""

    layers = 1

    def __init__(self, width: int, num_labels: int, dropout: float = 0.1, pool="mean", hidden_units: int | None = None):
        super().__init__()
        self.pool = POOLS[pool]
        self.hidden_layer = nn.Sequential(nn.Linear(width, hidden_units), nn.ReLU()) if hidden_units else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_units or width, num_labels)

    def forward(self, vectors, mask):
        return self.classifier(self.dropout(self.hidden_layer(self.pool(vectors, mask))))


class CNN(nn.Module):
    """The series' own head, from `pytorch_functional`, over the last `layers` layers side by side.

    `num_filters` are shared out among the kernel sizes. With a kernel size of 1 it is a dense ReLU layer on each token,
    followed by max pooling. With `masked=False`, windows of padding count like any other.
    """

    def __init__(
        self, width: int, num_labels: int, dropout=0.1, kernel_sizes=(3, 4, 5), num_filters=300, layers=1, masked=True
    ):
        super().__init__()
        self.layers, self.masked, self.dropout = layers, masked, dropout
        self.convs = nn.ModuleList(nn.Conv1d(layers * width, num_filters // len(kernel_sizes), k) for k in kernel_sizes)
        self.classifier = nn.Linear(num_filters, num_labels)

    def forward(self, vectors, mask):
        if not self.masked:
            mask = torch.ones_like(mask)
        params = {"convs": [dict(conv.named_parameters()) for conv in self.convs]}
        params["classifier"] = dict(self.classifier.named_parameters())
        vectors = vectors.mT.contiguous().mT  # in memory as conv1d wants them: otherwise each of three copies them
        return pytorch_functional.head(params, vectors, mask, dropout=self.dropout if self.training else 0.0)


MODULES = {"Pooled": Pooled, "CNN": CNN}


def matched_units(width: int, num_labels: int) -> int:
    """Units of one dense layer, (width -> units -> num_labels), that has as many parameters as the CNN."""
    cnn = sum(parameter.numel() for parameter in CNN(width, num_labels).parameters())
    return round((cnn - num_labels) / (width + 1 + num_labels))


def make(name: str, width: int, num_labels: int, dropout: float = 0.1, output_scale: float = 0.01) -> nn.Module:
    """A new head, with random weights. Its first loss is about ln C: the output layer starts small."""
    spec = HEADS[name]
    options = {
        key: matched_units(width, num_labels) if value == MATCHED else value for key, value in spec.options.items()
    }
    dropout, output_scale = options.pop("dropout", dropout), options.pop("output_scale", output_scale)
    head = MODULES[spec.module](width, num_labels, dropout, **options).apply(glorot)
    start_small(head.classifier, output_scale)
    return head


def start_small(linear: nn.Linear, scale: float = 0.01) -> None:
    """Shrink a new output layer, so that all classes start about equally likely, whatever the features' size."""
    with torch.no_grad():
        linear.weight.mul_(scale)
        linear.bias.zero_()


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
    """A head on an encoder; or the head alone, for vectors that are already computed."""

    def __init__(self, head, encoder=None):
        super().__init__()
        self.head, self.encoder = head, encoder

    def forward(self, attention_mask, labels, input_ids=None, vectors=None):
        if vectors is None:
            vectors = token_vectors(self.encoder, input_ids, attention_mask, self.head.layers)
        logits = self.head(vectors, attention_mask)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
