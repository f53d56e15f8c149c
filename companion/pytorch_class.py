"""PyTorch, as a class: a `PreTrainedModel` for `Trainer`, `pipeline` and `save_pretrained`."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel, initialization
from transformers.modeling_outputs import SequenceClassifierOutput

from companion.config import BertCNNConfig
from companion.encoders import DEFAULT_ENCODER, PACKAGED, find_encoder, load_pytorch_encoder


def glorot(module: nn.Module, gain: float = 1.0) -> None:
    """Initialize a layer as Keras does: weights uniform after Glorot & Bengio (2010), biases 0."""
    if isinstance(module, (nn.Conv1d, nn.Linear)):
        initialization.xavier_uniform_(module.weight, gain)
        initialization.zeros_(module.bias)


class BertCNN(PreTrainedModel):
    """BERT's token vectors into parallel convolutions, max over time, linear (Kim 2014, section 2)."""

    config_class = BertCNNConfig
    base_model_prefix = "encoder"

    def __init__(self, config: BertCNNConfig):
        super().__init__(config)
        width = len(config.kernel_sizes) * config.num_filters
        self.encoder = AutoModel.from_config(config.encoder_config)
        self.convs = nn.ModuleList(
            nn.Conv1d(config.encoder_config.hidden_size, config.num_filters, k) for k in config.kernel_sizes
        )
        self.dropout = nn.Dropout(config.dropout)
        self.hidden_layer = nn.Linear(width, config.hidden_units) if config.hidden_units else None
        self.classifier = nn.Linear(config.hidden_units or width, config.num_labels)
        self.post_init()

    def _init_weights(self, module):
        # A small output layer makes all classes about equally likely: training starts at a loss near ln C.
        glorot(module, gain=0.01 if module is self.classifier else 1.0)

    @classmethod
    def from_encoder(cls, name: str = DEFAULT_ENCODER, **config) -> "BertCNN":
        """A pretrained encoder under a new head; `config` as in `BertCNNConfig`."""
        settings = BertCNNConfig(**config)  # refused, if at all, before the encoder is fetched
        encoder = load_pytorch_encoder(name)
        settings.encoder_config = encoder.config
        model = cls(settings)
        model.encoder = encoder
        return model.eval()

    @classmethod
    def from_pretrained(cls, name="classifier", *args, **kwargs) -> "BertCNN":
        """A saved BERT-CNN: a folder, a Hub id, or "classifier", the ready-made one in this package."""
        return super().from_pretrained(find_encoder(name) if name in PACKAGED else name, *args, **kwargs)

    def embed(self, input_ids, attention_mask):
        """One vector per token, in context: (B, T) -> (B, T, D)."""
        # text first, padding last: BERT counts positions from 0, wherever the padding is
        order = attention_mask.argsort(dim=1, descending=True, stable=True)
        input_ids, mask = input_ids.gather(1, order), attention_mask.gather(1, order)
        hidden = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return hidden.gather(1, order.argsort(dim=1)[..., None].expand_as(hidden))

    def convolve(self, hidden, attention_mask):
        """ReLU of the k-token window that starts at each token: (B, T, D) -> K x (B, T, F)."""
        mask = attention_mask.to(hidden.dtype)  # (B, T)
        first = mask * (1 - F.pad(mask, (1, -1)))  # 1 at the text's first token
        channels = (hidden * mask[..., None]).transpose(1, 2)  # (B, D, T), as Conv1d wants it
        maps = []
        for conv, k in zip(self.convs, self.config.kernel_sizes, strict=True):
            windows = F.relu(conv(F.pad(channels, (0, k - 1)))).transpose(1, 2)  # (B, T, F)
            # a window counts if it lies within the text, or if it is the text's first (B, T)
            window_mask = torch.maximum(first, mask * F.pad(mask, (0, k - 1))[:, k - 1 :])
            maps.append(windows * window_mask[..., None])
        return maps

    def pool(self, maps):
        """The strongest window of each filter: K x (B, T, F) -> (B, K*F)."""
        return torch.cat([windows.amax(dim=1) for windows in maps], dim=1)

    def classify(self, features):
        """Dropout, the hidden layer if there is one, linear: (B, K*F) -> (B, C)."""
        features = self.dropout(features)
        if self.hidden_layer is not None:
            features = F.relu(self.hidden_layer(features))
        return self.classifier(features)

    def forward(self, input_ids, attention_mask=None, labels=None):
        """`logits` (B, C), and the cross-entropy `loss` where `labels` (B,) are given."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.embed(input_ids, attention_mask)
        maps = self.convolve(hidden, attention_mask)
        features = self.pool(maps)
        logits = self.classify(features)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


# From here on AutoModelForSequenceClassification and pipeline() load a saved BertCNN like any other model.
AutoConfig.register("bert_cnn", BertCNNConfig, exist_ok=True)
AutoModelForSequenceClassification.register(BertCNNConfig, BertCNN, exist_ok=True)
