"""A saved BERT-CNN of either framework -> the PyTorch class, its tokenizer and the names of its classes."""

import json
from pathlib import Path

from companion.encoders import DEFAULT_ENCODER, check_tokenizer, find_encoder, load_tokenizer


def load_saved(name: str, tokenizer: str | None = None, labels: list[str] | None = None):
    """(model, tokenizer, labels) of a saved BERT-CNN.

    name: a folder that the PyTorch class has saved, a Hub id, "classifier", or a `.keras` file of either Keras variant.
    tokenizer: an encoder's name; needed where the model was saved without its tokenizer, as a `.keras` file always is.
    labels: the names of the classes, in order; by default those in the model's own config.
    Raises ValueError, with one sentence, for a model that is no sentence classifier, and for labels or a tokenizer that
    do not belong to it.
    """
    is_keras = Path(name).suffix == ".keras"
    model = from_keras(Path(name)) if is_keras else from_folder(name)
    classes = [model.config.id2label[number] for number in range(model.config.num_labels)]
    if len(classes) < 2 or model.config.problem_type not in (None, "single_label_classification"):
        raise ValueError(f"'{name}' does not choose one of several classes; only such models can be exported.")
    if labels and len(labels) != len(classes):
        raise ValueError(f"'{name}' has {len(classes)} classes, and {len(labels)} names are given.")
    own = not is_keras and any(find_encoder(name).glob("tokenizer*.json"))
    found = load_tokenizer(tokenizer or (name if own else DEFAULT_ENCODER))
    encoder = model.encoder
    vocabulary, rows = getattr(encoder.config, "vocabulary", None), encoder.get_input_embeddings().num_embeddings
    check_tokenizer(found, vocabulary, rows, given=tokenizer is not None)
    return model, found, list(labels or classes)


def from_folder(name: str):
    """The PyTorch class, from what it has saved."""
    from companion.pytorch_class import BertCNN

    try:
        config = json.loads((find_encoder(name) / "config.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        raise ValueError(f"The config.json of '{name}' is damaged: it is not JSON.") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "bert_cnn":
        raise ValueError(f"'{name}' is no BERT-CNN but a model of type '{kind}'; train one first (notebook 07).")
    return BertCNN.from_pretrained(name).eval()


def from_keras(path: Path):
    """The PyTorch class with the settings and weights of a saved Keras model, class or graph."""
    if not path.is_file():
        raise ValueError(f"There is no file '{path}'.")
    from transformers import BertConfig

    from companion import keras_class, keras_functional, weights  # noqa: F401 (Keras has to know both variants)
    from companion.config import BertCNNConfig
    from companion.pytorch_class import BertCNN
    from companion.quiet import keras

    try:
        saved = keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, OSError) as error:  # what Keras raises for a damaged or unknown file
        raise ValueError(f"'{path}' cannot be read as a Keras model ({type(error).__name__}).") from None
    layers = {layer.name: layer for layer in saved.layers}
    convs = [layer for name, layer in layers.items() if name.startswith("conv_")]
    encoder = next((layer for layer in layers.values() if hasattr(layer, "hidden_dim")), None)
    if not convs or "classifier" not in layers or not hasattr(encoder, "more"):
        raise ValueError(f"'{path}' is no BERT-CNN: it lacks the encoder, the convolutions or the classifier.")
    hidden = layers.get("hidden_layer")
    settings = BertCNNConfig(
        kernel_sizes=[conv.kernel_size[0] for conv in convs],
        num_filters=convs[0].filters,
        num_labels=layers["classifier"].units,
        hidden_units=hidden and hidden.units,
        encoder_config=BertConfig(
            vocab_size=encoder.vocabulary_size,
            hidden_size=encoder.hidden_dim,
            num_hidden_layers=encoder.num_layers,
            num_attention_heads=encoder.num_heads,
            intermediate_size=encoder.intermediate_dim,
            max_position_embeddings=encoder.max_sequence_length,
            type_vocab_size=encoder.num_segments,
            hidden_act=encoder.more["hidden_act"],
            layer_norm_eps=encoder.more["layer_norm_eps"],
            vocabulary=encoder.vocabulary,
        ),
    )
    return weights.to_pytorch(saved, BertCNN(settings)).eval()
