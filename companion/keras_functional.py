"""Keras, as a graph of layers (its Functional API). Every step is a layer of that name."""

from companion.config import BertCNNConfig
from companion.encoders import DEFAULT_ENCODER, load_keras_encoder
from companion.keras_class import SMALL, load_pretrained
from companion.quiet import keras

layers, ops = keras.layers, keras.ops


def build_bert_cnn(name: str = DEFAULT_ENCODER, **config) -> keras.Model:
    """A pretrained encoder under a new head; `config` as in `BertCNNConfig`.

    The model maps `{"input_ids": (B, T), "attention_mask": (B, T)}` to logits (B, C) (Kim 2014, section 2).
    `model.save("model.keras")` keeps everything. In a new process, first run `import companion.keras_functional`, then
    `keras.saving.load_model("model.keras")`: without the import Keras cannot locate the class 'BertEncoder'.
    """
    settings = BertCNNConfig.of(**config)
    encoder = load_keras_encoder(name)
    input_ids = keras.Input((None,), dtype="int32", name="input_ids")  # (B, T)
    attention_mask = keras.Input((None,), dtype="int32", name="attention_mask")  # (B, T)

    # embed: one vector per token, in context (B, T, D)
    order = ops.argsort(1 - attention_mask, axis=1)  # text first, padding last: BERT counts positions from 0
    ids, mask = (ops.take_along_axis(x, order, axis=1) for x in (input_ids, attention_mask))
    inputs = {"token_ids": ids, "segment_ids": ops.zeros_like(ids), "padding_mask": mask}
    hidden = ops.take_along_axis(encoder(inputs)["sequence_output"], ops.argsort(order, axis=1)[..., None], axis=1)
    hidden = layers.Identity(name="hidden")(hidden)

    # convolve: ReLU of the k-token window that starts at each token, K x (B, T, F)
    mask = ops.cast(attention_mask, hidden.dtype)  # (B, T)
    first = mask * (1 - ops.pad(mask, ((0, 0), (1, 0)))[:, :-1])  # 1 at the text's first token
    text = hidden * mask[..., None]
    maps = []
    for k in settings.kernel_sizes:
        padded = ops.pad(text, ((0, 0), (0, k - 1), (0, 0)))
        windows = layers.Conv1D(settings.num_filters, k, activation="relu", name=f"conv_{k}")(padded)
        # a window counts if it lies within the text, or if it is the text's first (B, T)
        window_mask = ops.maximum(first, mask * ops.pad(mask, ((0, 0), (0, k - 1)))[:, k - 1 :])
        maps.append(layers.Multiply(name=f"maps_{k}")([windows, window_mask[..., None]]))

    # pool: the strongest window of each filter (B, K*F)
    pooled = [layers.GlobalMaxPooling1D(name=f"pool_{k}")(m) for k, m in zip(settings.kernel_sizes, maps, strict=True)]
    features = layers.Concatenate(name="features")(pooled)

    # classify: dropout, the hidden layer if there is one, linear (B, C)
    kept = layers.Dropout(settings.dropout, name="dropout")(features)
    if settings.hidden_units:
        kept = layers.Dense(settings.hidden_units, activation="relu", name="hidden_layer")(kept)
    logits = layers.Dense(settings.num_labels, kernel_initializer=SMALL, name="classifier")(kept)
    return keras.Model({"input_ids": input_ids, "attention_mask": attention_mask}, logits, name="bert_cnn")


def from_pretrained(name="classifier") -> keras.Model:
    """A BERT-CNN that the PyTorch class has saved, or the package's own "classifier"."""
    return load_pretrained(name, build_bert_cnn)


def steps(model: keras.Model) -> keras.Model:
    """The same graph with every step as an output: a dict of hidden, maps (a list), features, logits."""
    maps = [layer.output for layer in model.layers if layer.name.startswith("maps_")]
    outputs = {name: model.get_layer(name).output for name in ("hidden", "features")}
    return keras.Model(model.input, {**outputs, "maps": maps, "logits": model.output})
