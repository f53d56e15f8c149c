"""Keras, as a graph of layers (its Functional API). Every step is a layer of that name."""

from companion.config import BertCNNConfig
from companion.encoders import DEFAULT_ENCODER, load_keras_encoder
from companion.keras_class import TextOnly
from companion.quiet import keras

layers, ops = keras.layers, keras.ops


def build_bert_cnn(name: str = DEFAULT_ENCODER, **config) -> keras.Model:
    """A pretrained encoder under a new head; `config` as in `BertCNNConfig`.

    The model maps `{"input_ids": (B, T), "attention_mask": (B, T)}` to logits (B, C) (Kim 2014, section 2).
    `model.save("model.keras")` keeps everything. A new process first says `import companion.keras_functional`, then
    `keras.saving.load_model("model.keras")`: without the import Keras cannot locate the class 'BertEncoder'.
    """
    settings = BertCNNConfig(**config)
    encoder = load_keras_encoder(name)
    input_ids = keras.Input((None,), dtype="int32", name="input_ids")  # (B, T)
    attention_mask = keras.Input((None,), dtype="int32", name="attention_mask")  # (B, T)

    # embed: one vector a token, in context (B, T, D)
    inputs = {"token_ids": input_ids, "segment_ids": ops.zeros_like(input_ids), "padding_mask": attention_mask}
    hidden = layers.Identity(name="hidden")(encoder(inputs)["sequence_output"])

    # convolve: ReLU of every k-token window, K x (B, W_k, F)
    text, mask = TextOnly(max(settings.kernel_sizes), name="text_only")(hidden, attention_mask)
    maps = []
    for k in settings.kernel_sizes:
        windows = layers.Conv1D(settings.num_filters, k, activation="relu", name=f"conv_{k}")(text)
        counts = ops.pad(mask[:, k:], ((0, 0), (1, 0)), constant_values=1)  # does the window end inside the text?
        maps.append(layers.Multiply(name=f"maps_{k}")([windows, counts[..., None]]))

    # pool: the strongest window of each filter (B, K*F)
    strongest = [
        layers.GlobalMaxPooling1D(name=f"strongest_{k}")(m) for k, m in zip(settings.kernel_sizes, maps, strict=True)
    ]
    features = layers.Concatenate(name="features")(strongest)

    # classify: dropout, the hidden layer if there is one, linear (B, C)
    kept = layers.Dropout(settings.dropout, name="dropout")(features)
    if settings.hidden_units:
        kept = layers.Dense(settings.hidden_units, activation="relu", name="hidden_layer")(kept)
    logits = layers.Dense(settings.num_labels, name="classifier")(kept)
    return keras.Model({"input_ids": input_ids, "attention_mask": attention_mask}, logits, name="bert_cnn")


def steps(model: keras.Model) -> keras.Model:
    """The same graph with every step as an output: a dict of hidden, maps (a list), features, logits."""
    maps = [layer.output for layer in model.layers if layer.name.startswith("maps_")]
    outputs = {name: model.get_layer(name).output for name in ("hidden", "features")}
    return keras.Model(model.input, {**outputs, "maps": maps, "logits": model.output})
