"""Keras, as a class: a `keras.Model` for `compile`, `fit` and `save`."""

from companion.config import BertCNNConfig
from companion.encoders import DEFAULT_ENCODER, load_keras_encoder
from companion.keras_encoder import copy, head_twins, set_trainable_layers, trainable_layers
from companion.quiet import keras

layers, ops = keras.layers, keras.ops
# A small output layer makes all classes about equally likely: training starts at a loss near ln C.
# (Keras's default after Glorot & Bengio 2010 has scale 1; the scale is a variance, so weights are a hundredth.)
SMALL = keras.initializers.VarianceScaling(1e-4, mode="fan_avg", distribution="uniform")


def loss_for(problem_type: str = "single_label_classification") -> keras.losses.Loss:
    """The loss on logits for `compile`, by transformers' names of the problem types, equal to the PyTorch class's.

    "single_label_classification": labels (B,). "multi_label_classification": labels (B, C) of 0 and 1.
    "regression": labels (B,), for a model with num_labels=1.
    """
    BertCNNConfig(problem_type=problem_type)  # refuses any other name
    if problem_type == "regression":
        return keras.losses.MeanSquaredError()
    if problem_type == "multi_label_classification":
        return keras.losses.BinaryCrossentropy(from_logits=True)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def load_pretrained(name, build, source=None):
    """A saved BERT-CNN as a Keras model; `build` makes one from an encoder's name and the head's settings.

    source: the PyTorch class that has saved it, by default the sentence classifier.
    """
    from companion import pytorch_class

    saved = (source or pytorch_class.BertCNN).from_pretrained(name)
    model = build(str(name), **saved.config.head)
    for parameter, variable in head_twins(saved, model):
        copy(parameter, variable)
    return model


@keras.saving.register_keras_serializable("companion")
class BertCNN(keras.Model):
    """BERT's token vectors into parallel convolutions, max over time, linear (Kim 2014, section 2).

    `model.save("model.keras")` keeps everything. In a new process, first run `import companion.keras_class`, then
    `keras.saving.load_model("model.keras")`: without the import Keras cannot locate the class 'BertCNN'.
    """

    config_class = BertCNNConfig

    def __init__(
        self, encoder, kernel_sizes=(3, 4, 5), num_filters=100, dropout=0.5, num_labels=2, hidden_units=None, **kwargs
    ):
        super().__init__(**kwargs)
        sizes = {"kernel_sizes": kernel_sizes, "num_filters": num_filters, "hidden_units": hidden_units}
        self.settings = self.config_class(**sizes, dropout=dropout, num_labels=num_labels).head
        self.encoder = encoder
        dtype = self.dtype_policy  # a saved model's own, whatever Keras is set to when it is loaded
        relu = {"activation": "relu", "dtype": dtype}
        self.convs = [layers.Conv1D(num_filters, k, name=f"conv_{k}", **relu) for k in self.settings["kernel_sizes"]]
        self.dropout = layers.Dropout(dropout, dtype=dtype)
        self.hidden_layer = layers.Dense(hidden_units, name="hidden_layer", **relu) if hidden_units else None
        self.classifier = layers.Dense(num_labels, kernel_initializer=SMALL, name="classifier", dtype=dtype)

    @classmethod
    def from_encoder(cls, name: str = DEFAULT_ENCODER, **config) -> "BertCNN":
        """A pretrained encoder under a new head; `config` as in `BertCNNConfig`."""
        settings = cls.config_class.of(**config)  # wrong settings raise here, before the encoder is loaded
        model = cls(load_keras_encoder(name), **settings.head)
        model.build()
        return model

    @classmethod
    def from_pretrained(cls, name="classifier") -> "BertCNN":
        """A BERT-CNN that the PyTorch class has saved, or the package's own "classifier"."""
        return load_pretrained(name, cls.from_encoder)

    def build(self, input_shape=None):
        if self.built:
            return
        width = len(self.convs) * self.settings["num_filters"]
        for conv in self.convs:
            conv.build((None, None, self.encoder.hidden_dim))
        if self.hidden_layer is not None:
            self.hidden_layer.build((None, width))
        self.classifier.build((None, self.settings["hidden_units"] or width))
        self.built = True

    def embed(self, input_ids, attention_mask, training=None):
        """One vector per token, in context: (B, T) -> (B, T, D)."""
        input_ids, attention_mask = ops.cast(input_ids, "int32"), ops.cast(attention_mask, "int32")
        # text first, padding last: BERT counts positions from 0, wherever the padding is
        order = ops.argsort(1 - attention_mask, axis=1)
        input_ids, mask = (ops.take_along_axis(ids, order, axis=1) for ids in (input_ids, attention_mask))
        inputs = {"token_ids": input_ids, "segment_ids": ops.zeros_like(input_ids), "padding_mask": mask}
        hidden = self.encoder(inputs, training=training)["sequence_output"]
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
        hidden = self.embed(input_ids, attention_mask, training)
        maps = self.convolve(hidden, attention_mask)
        features = self.pool(maps)
        return self.classify(features, training)

    def get_config(self):
        encoder, flags = keras.saving.serialize_keras_object(self.encoder), trainable_layers(self)
        settings = {**self.settings, "dropout": self.dropout.rate}  # as it is now
        return {**super().get_config(), **settings, "encoder": encoder, "trainable_layers": flags}

    @classmethod
    def from_config(cls, config):
        flags = config.pop("trainable_layers", None)  # files of earlier versions have none
        model = cls(keras.saving.deserialize_keras_object(config.pop("encoder")), **config)
        model.build()  # else the optimizer's state would find no weights to belong to
        return set_trainable_layers(model, flags) if flags else model
