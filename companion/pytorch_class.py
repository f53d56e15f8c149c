"""PyTorch, as a class: a `PreTrainedModel` for `Trainer`, `pipeline` and `save_pretrained`."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel, initialization
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from companion.config import BertCNNConfig
from companion.encoders import DEFAULT_ENCODER, PACKAGED, check_found, find_encoder, freeze_pooler, load_pytorch_encoder


def glorot(module: nn.Module, gain: float = 1.0) -> None:
    """Initialize a layer as Keras does: weights uniform after Glorot & Bengio (2010), biases 0."""
    if isinstance(module, (nn.Conv1d, nn.Linear)):
        initialization.xavier_uniform_(module.weight, gain)
        initialization.zeros_(module.bias)


def take(values, order):
    """Reorder the positions of each row: values (B, T) or (B, T, D), order (B, T)."""
    return values.gather(1, (order if values.ndim == 2 else order[..., None]).expand(values.shape))


class BertCNN(PreTrainedModel):
    """BERT's token vectors into parallel convolutions, max over time, linear (Kim 2014, section 2)."""

    config_class = BertCNNConfig
    base_model_prefix = "encoder"

    def __init__(self, config: BertCNNConfig):
        super().__init__(config)
        width = len(config.kernel_sizes) * config.num_filters
        self.encoder = freeze_pooler(AutoModel.from_config(config.encoder_config))
        self.supports_gradient_checkpointing = self.encoder.supports_gradient_checkpointing
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
        settings = cls.config_class.of(**config)  # wrong settings raise here, before the encoder is loaded
        encoder = load_pytorch_encoder(name)
        settings.encoder_config = encoder.config
        model = cls(settings)
        model.encoder = encoder
        return model.eval()

    @classmethod
    def from_pretrained(cls, name="classifier", *args, output_loading_info=False, **kwargs):
        """A saved BERT-CNN: a folder, a Hub id, or "classifier", the ready-made one in this package."""
        own, resize = find_encoder(name) if name in PACKAGED else name, kwargs.pop("ignore_mismatched_sizes", False)
        options = kwargs | {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, found = super().from_pretrained(own, *args, **options)
        check_found(name, found, mismatched=resize)
        freeze_pooler(model.encoder)  # loading makes it trainable
        return (model, found) if output_loading_info else model

    def embed(self, input_ids, attention_mask):
        """One vector per token, in context: (B, T) -> (B, T, D)."""
        # text first, padding last: BERT counts positions from 0, wherever the padding is
        order = attention_mask.argsort(dim=1, descending=True, stable=True)
        input_ids, mask = take(input_ids, order), take(attention_mask, order)
        hidden = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return take(hidden, order.argsort(dim=1))

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

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        labels=None,
        output_hidden_states=None,
        output_attentions=None,
    ):
        """`logits` (B, C), and a `loss` where `labels` are given; arguments as in transformers' own classifiers.

        Hidden states and attentions are those of the encoder, which reads each text first and its padding last.
        """
        if attention_mask is None:
            batch = input_ids if inputs_embeds is None else inputs_embeds
            attention_mask = torch.ones(batch.shape[:2], dtype=torch.long, device=batch.device)
        order = attention_mask.argsort(dim=1, descending=True, stable=True)  # text first, as in `embed`
        inputs = {"input_ids": input_ids, "token_type_ids": token_type_ids, "position_ids": position_ids}
        inputs |= {"inputs_embeds": inputs_embeds, "attention_mask": attention_mask}
        inputs = {name: take(values, order) for name, values in inputs.items() if values is not None}
        inputs |= {"output_hidden_states": True} if output_hidden_states else {}  # not all encoders know all arguments
        inputs |= {"output_attentions": True} if output_attentions else {}
        encoded = self.encoder(**inputs)
        maps = self.convolve(encoded.last_hidden_state, inputs["attention_mask"])
        features = self.pool(maps)
        logits = self.classify(features)
        loss = None if labels is None else self.loss(logits, labels)
        return SequenceClassifierOutput(loss, logits, encoded.get("hidden_states"), encoded.get("attentions"))

    def loss(self, logits, labels):
        """Mean loss for the config's `problem_type`; where that is None, the shapes say which (as in transformers).

        "single_label_classification": cross-entropy, labels (B,). "multi_label_classification": binary cross-entropy,
        labels (B, C) of 0 and 1. "regression": squared error, labels (B,) or (B, C).
        """
        problem = self.config.problem_type
        if problem == "regression" or (problem is None and self.config.num_labels == 1):
            return F.mse_loss(logits, labels.to(logits.dtype).reshape(logits.shape))
        if problem == "multi_label_classification" or (problem is None and labels.is_floating_point()):
            return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype).reshape(logits.shape))
        return F.cross_entropy(logits, labels.reshape(-1))

    def save_pretrained(self, *args, **kwargs):
        """As in transformers; what has been changed since the model was made is saved as it is now.

        In a new process, first run `import companion.pytorch_class`, also where it loads the model by
        `AutoModelForSequenceClassification` or `pipeline`: without the import transformers does not recognize the
        model type `bert_cnn`.
        """
        self.config.encoder_config = self.encoder.config
        self.config.encoder_config.vocab_size = self.get_input_embeddings().num_embeddings
        self.config.num_labels, self.config.dropout = self.classifier.out_features, self.dropout.p
        super().save_pretrained(*args, **kwargs)


# From here on AutoModelForSequenceClassification and pipeline() load a saved BertCNN like any other model.
AutoConfig.register("bert_cnn", BertCNNConfig, exist_ok=True)
AutoModelForSequenceClassification.register(BertCNNConfig, BertCNN, exist_ok=True)
