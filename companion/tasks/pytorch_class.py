"""PyTorch, as classes: the series' `BertCNN` on documents, tokens and sentences; `hidden` may replace `input_ids`."""

import warnings
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForTokenClassification
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

from companion.pytorch_class import BertCNN
from companion.tasks.config import SummaryConfig, TaggingConfig

PIECES = 16  # encoded at once: memory does not grow with the length of a document


def centre(convs, hidden, mask):
    """ReLU of the k-token window centred on each token: (B, T, D) -> K x (B, T, F). k is odd; zeros beyond the text."""
    mask = mask[..., None].to(hidden.dtype)  # (B, T, 1)
    channels = (hidden * mask).transpose(1, 2)  # (B, D, T), as conv1d wants it
    windows = [F.conv1d(channels, conv.weight, conv.bias, padding="same") for conv in convs]
    return [F.relu(w).transpose(1, 2) * mask for w in windows]


def marked_mean(losses, marked):
    """The mean of the losses that are marked; 0 where none is."""
    return (losses * marked).sum() / marked.sum().clamp(min=1)


class TaskCNN(BertCNN):
    """What the three tasks share: output layers of any width, and pieces of a text, read a few at a time."""

    def set_width(self, width: int) -> None:
        """Replace the output layers by new ones, for features (..., width)."""
        units = self.config.hidden_units
        self.hidden_layer = nn.Linear(width, units) if units else None
        self.classifier = nn.Linear(units or width, self.config.num_labels)
        self.post_init()

    def read(self, tokens, attention_mask, window_mask):
        """The strongest window of each filter in each piece: (B, P, T) -> (B, P, K*F); 0 for pieces of padding."""
        if any(mask is None or mask.ndim != 3 for mask in (attention_mask, window_mask)):
            raise ValueError("A text is read as pieces and their masks, (B, P, T): see `documents.cut`.")
        alive, read = attention_mask.any(dim=2), self.read_pieces  # (B, P)
        order = attention_mask[alive].sum(dim=1).argsort()  # pieces of about one length together: little padding
        parts = [x[alive][order].split(PIECES) for x in (tokens, attention_mask, window_mask)]
        if self.training and tokens.ndim == 3 and len(order) > PIECES:
            read = partial(checkpoint, read, use_reentrant=False)  # the encoder's activations are computed again
        found = torch.cat([read(*(x[:, batch[1].any(dim=0)] for x in batch)) for batch in zip(*parts, strict=True)])
        return found.new_zeros(*alive.shape, found.shape[1]).index_put((alive,), found[order.argsort()])

    def read_pieces(self, tokens, attention_mask, window_mask):
        """Token ids (N, T), or their vectors (N, T, D), of N pieces -> (N, K*F)."""
        hidden = tokens if tokens.is_floating_point() else self.embed(tokens, attention_mask)
        maps = self.convolve(hidden, attention_mask)
        return self.pool([windows * window_mask[..., None] for windows in maps])


class DocumentCNN(TaskCNN):
    """A document's class. Its weights are those of a `BertCNN`, whose saved folders it can read."""

    def forward(self, input_ids=None, attention_mask=None, window_mask=None, labels=None, hidden=None):
        """Pieces (B, P, T), as `documents.cut` makes them -> `logits` (B, C); `loss` where `labels` (B,) are given."""
        pieces = self.read(input_ids if hidden is None else hidden, attention_mask, window_mask)  # (B, P, K*F)
        features = pieces.amax(dim=1)  # the strongest of all windows of all pieces
        logits = self.classify(features)
        loss = None if labels is None else self.loss(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class TaggingCNN(TaskCNN):
    """A class for each token, from the windows centred on it."""

    config_class = TaggingConfig

    def __init__(self, config: TaggingConfig):
        with warnings.catch_warnings():  # PyTorch's, of layers that read no features: these are replaced
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            super().__init__(config)
        if not config.kernel_sizes:
            self.set_width(config.encoder_config.hidden_size)

    def convolve(self, hidden, attention_mask):
        """ReLU of the k-token window centred on each token: (B, T, D) -> K x (B, T, F); without kernels, `hidden`."""
        return centre(self.convs, hidden, attention_mask) or [hidden]

    def forward(self, input_ids=None, attention_mask=None, labels=None, hidden=None, token_type_ids=None):
        """Tokens (B, T) -> `logits` (B, T, C), `loss` where `labels` (B, T) are not -100; token types are not used."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids if hidden is None else hidden[..., 0], dtype=torch.long)
        hidden = self.embed(input_ids, attention_mask) if hidden is None else hidden
        maps = self.convolve(hidden, attention_mask)
        features = torch.cat(maps, dim=2)  # (B, T, K*F): no pooling, each token keeps its own windows
        logits = self.classify(features)
        loss = None if labels is None else self.loss(logits, labels)
        return TokenClassifierOutput(loss=loss, logits=logits)

    def loss(self, logits, labels):
        """Cross-entropy of the tokens whose labels (B, T) are not -100."""
        return marked_mean(F.cross_entropy(logits.transpose(1, 2), labels, reduction="none"), labels != -100)


class SummaryCNN(TaskCNN):
    """A score for each sentence: `pool` per sentence, then a second convolution over the sequence of sentences."""

    config_class = SummaryConfig

    def __init__(self, config: SummaryConfig):
        super().__init__(config)
        width, sizes = len(config.kernel_sizes) * config.num_filters, config.sentence_kernel_sizes
        self.sentence_convs = nn.ModuleList(nn.Conv1d(width, config.num_filters, k) for k in sizes)
        self.set_width(len(sizes) * config.num_filters or width)

    def forward(self, input_ids=None, attention_mask=None, labels=None, hidden=None):
        """Sentences (B, S, T) -> `logits` (B, S), and the `loss` of those whose `labels` (B, S) are not -100."""
        sentences = self.read(input_ids if hidden is None else hidden, attention_mask, attention_mask)  # (B, S, K*F)
        maps = centre(self.sentence_convs, sentences, attention_mask.any(dim=2)) or [sentences]
        logits = self.classify(torch.cat(maps, dim=2)).squeeze(2)
        loss = None if labels is None else self.loss(logits, labels)
        return TokenClassifierOutput(loss=loss, logits=logits)

    def loss(self, logits, labels):
        """Binary cross-entropy of the sentences whose labels (B, S) are not -100."""
        targets = labels.clamp(min=0).to(logits.dtype)
        return marked_mean(F.binary_cross_entropy_with_logits(logits, targets, reduction="none"), labels != -100)


# From here on AutoModelForTokenClassification and pipeline("token-classification") load a saved TaggingCNN.
AutoConfig.register("bert_cnn_tagging", TaggingConfig, exist_ok=True)
AutoModelForTokenClassification.register(TaggingConfig, TaggingCNN, exist_ok=True)
