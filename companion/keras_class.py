"""Keras, as a class: a `keras.Model` for `compile`, `fit` and `save`."""

from companion.config import BertCNNConfig
from companion.encoders import DEFAULT_ENCODER, load_keras_encoder
from companion.quiet import keras

layers, ops = keras.layers, keras.ops


# A small output layer makes all classes about equally likely: training starts at a loss near ln C.
# (Keras's default after Glorot & Bengio 2010 has scale 1; the scale is a variance, so weights are a hundredth.)
SMALL = keras.initializers.VarianceScaling(1e-4, mode="fan_avg", distribution="uniform")


@keras.saving.register_keras_serializable("companion")
class BertCNN(keras.Model):
    """BERT's token vectors into parallel convolutions, max over time, linear (Kim 2014, section 2)."""

    def __init__(
        self, encoder, kernel_sizes=(3, 4, 5), num_filters=100, dropout=0.5, num_labels=2, hidden_units=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.settings = BertCNNConfig(kernel_sizes, num_filters, dropout, num_labels, hidden_units).head
        self.encoder = encoder
        self.convs = [layers.Conv1D(num_filters, k, activation="relu", name=f"conv_{k}") for k in kernel_sizes]
        self.dropout = layers.Dropout(dropout)
        self.hidden_layer = layers.Dense(hidden_units, activation="relu", name="hidden_layer") if hidden_units else None
        self.classifier = layers.Dense(num_labels, kernel_initializer=SMALL, name="classifier")

    @classmethod
    def from_encoder(cls, name: str = DEFAULT_ENCODER, **config) -> "BertCNN":
        """A pretrained encoder under a new head; `config` as in `BertCNNConfig`."""
        BertCNNConfig(**config)  # refused, if at all, before the encoder is fetched
        model = cls(load_keras_encoder(name), **config)
        model.build()
        return model

    @classmethod
    def from_pretrained(cls, name="classifier") -> "BertCNN":
        """A BERT-CNN that the PyTorch class has saved, or the package's own "classifier"."""
        from companion import weights

        return weights.from_pretrained(name, cls.from_encoder)

    def build(self, input_shape=None):
        width = len(self.convs) * self.settings["num_filters"]
        for conv in self.convs:
            conv.build((None, None, self.encoder.hidden_dim))
        if self.hidden_layer is not None:
            self.hidden_layer.build((None, width))
        self.classifier.build((None, self.settings["hidden_units"] or width))
        self.built = True

    def embed(self, input_ids, attention_mask):
        """One vector per token, in context: (B, T) -> (B, T, D)."""
        input_ids, attention_mask = ops.cast(input_ids, "int32"), ops.cast(attention_mask, "int32")
        # text first, padding last: BERT counts positions from 0, wherever the padding is
        order = ops.argsort(1 - attention_mask, axis=1)
        input_ids, mask = (ops.take_along_axis(ids, order, axis=1) for ids in (input_ids, attention_mask))
        inputs = {"token_ids": input_ids, "segment_ids": ops.zeros_like(input_ids), "padding_mask": mask}
        hidden = self.encoder(inputs)["sequence_output"]
        return ops.take_along_axis(hidden, ops.argsort(order, axis=1)[..., None], axis=1)

    def convolve(self, hidden, attention_mask):
        """ReLU of the k-token window that starts at each token: (B, T, D) -> K x (B, T, F)."""
        mask = ops.cast(attention_mask, hidden.dtype)  # (B, T)
        first = mask * (1 - ops.pad(mask, ((0, 0), (1, 0)))[:, :-1])  # 1 at the text's first token
        hidden = hidden * mask[..., None]
        maps = []
        for conv, k in zip(self.convs, self.settings["kernel_sizes"], strict=True):
            windows = conv(ops.pad(hidden, ((0, 0), (0, k - 1), (0, 0))))  # (B, T, F)
            # a window counts if it lies within the text, or if it is the text's first (B, T)
            window_mask = ops.maximum(first, mask * ops.pad(mask, ((0, 0), (0, k - 1)))[:, k - 1 :])
            maps.append(windows * window_mask[..., None])
        return maps

    def pool(self, maps):
        """The strongest window of each filter: K x (B, T, F) -> (B, K*F)."""
        return ops.concatenate([ops.max(windows, axis=1) for windows in maps], axis=1)

    def classify(self, features, training=None):
        """Dropout, the hidden layer if there is one, linear: (B, K*F) -> (B, C)."""
        features = self.dropout(features, training=training)
        if self.hidden_layer is not None:
            features = self.hidden_layer(features)
        return self.classifier(features)

    def call(self, inputs, training=None):
        """`{"input_ids": (B, T), "attention_mask": (B, T)}` -> logits (B, C)."""
        input_ids, attention_mask = inputs["input_ids"], inputs["attention_mask"]
        hidden = self.embed(input_ids, attention_mask)
        maps = self.convolve(hidden, attention_mask)
        features = self.pool(maps)
        return self.classify(features, training)

    def get_config(self):
        return {**super().get_config(), **self.settings, "encoder": keras.saving.serialize_keras_object(self.encoder)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("encoder")), **config)
