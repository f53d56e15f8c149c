"""The Keras encoder: KerasHub's BERT with all settings and weights of a `transformers` BERT."""

from functools import partial

from companion.quiet import keras  # isort: skip (before keras_hub, whose import of TensorFlow is not quiet)

import keras_hub
import numpy as np

tanh_gelu = partial(keras.activations.gelu, approximate=True)
ACTIVATIONS = {  # transformers' names
    "gelu": partial(keras.activations.gelu, approximate=False),
    "gelu_python": partial(keras.activations.gelu, approximate=False),
    "gelu_new": tanh_gelu,
    "gelu_fast": tanh_gelu,
    "gelu_accurate": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "gelu_python_tanh": tanh_gelu,
    "relu": keras.activations.relu,
    "relu6": keras.activations.relu6,
    "silu": keras.activations.silu,
    "swish": keras.activations.silu,
    "tanh": keras.activations.tanh,
    "sigmoid": keras.activations.sigmoid,
    "mish": keras.activations.mish,
}
# KerasHub's names in a BertBackbone -> Hugging Face's in a BertModel, read from left to right.
BERT_NAMES = {
    "token_embedding/embeddings": "embeddings.word_embeddings/kernel",
    "position_embedding/embeddings": "embeddings.position_embeddings/kernel",
    "segment_embedding/embeddings": "embeddings.token_type_embeddings/kernel",
    "embeddings_layer_norm": "embeddings.LayerNorm",
    "transformer_layer_": "encoder.layer.",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "self_attention_layer/attention_output": "attention.output.dense",
    "self_attention_layer": "attention.self",
    "feedforward_layer_norm": "output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "pooled_dense": "pooler.dense",
    "/kernel": "/weight",
    "/gamma": "/weight",
    "/beta": "/bias",
    "/": ".",
}


@keras.saving.register_keras_serializable("companion")
class BertEncoder(keras_hub.models.BertBackbone):
    """KerasHub's BERT, and what it has fixed: the activation, the layer norms' epsilon, the attention's own dropout.

    vocabulary: identifies the tokenizer, see `encoders.identify`. Frozen layers are still frozen after saving.
    """

    def __init__(self, hidden_act, layer_norm_eps, attention_dropout, dropout=0.0, vocabulary=None, **settings):
        super().__init__(dropout=max(dropout, attention_dropout), **settings)  # none is built with 0
        self.more = {"hidden_act": hidden_act, "layer_norm_eps": layer_norm_eps, "vocabulary": vocabulary}
        self.more |= {"attention_dropout": attention_dropout}
        self.vocabulary = vocabulary
        self.dropout = self.embeddings_dropout.rate = dropout
        self.embeddings_layer_norm.epsilon = layer_norm_eps
        for layer in self.transformer_layers:
            layer._feedforward_intermediate_dense.activation = ACTIVATIONS[hidden_act]
            for norm in (layer._self_attention_layer_norm, layer._feedforward_layer_norm):
                norm.epsilon = layer_norm_eps
            attention = layer._self_attention_layer
            attention._dropout = attention._dropout_layer.rate = attention_dropout
            layer._self_attention_dropout.rate = layer._feedforward_dropout.rate = dropout
        self.pooled_dense.trainable = False  # BERT's [CLS] output is not used: no gradient reaches it

    def get_config(self):
        return {**super().get_config(), **self.more, "trainable_layers": trainable_layers(self)}

    @classmethod
    def from_config(cls, config):
        flags = config.pop("trainable_layers")
        return set_trainable_layers(super().from_config(config), flags)


def trainable_layers(model) -> list[bool]:
    """`trainable` of every layer within a model, those within other layers included."""
    return [layer.trainable for layer in model._flatten_layers(include_self=False)]


def set_trainable_layers(model, flags: list[bool]):
    """Set what `trainable_layers` has read, outer layers first, and return the model."""
    for layer, flag in zip(model._flatten_layers(include_self=False), flags, strict=True):
        layer.trainable = flag
    return model


def from_pytorch(bert, name: str) -> BertEncoder:
    """A `transformers.BertModel` as a Keras model, in the precision that Keras is set to: single by default.

    Raises ValueError, with one sentence, for a setting that has no counterpart in KerasHub.
    """
    config = bert.config
    if config.hidden_act not in ACTIVATIONS:
        raise ValueError(
            f"The Keras variants do not know the activation '{config.hidden_act}' of '{name}'; the PyTorch variants do."
        )
    if getattr(config, "is_decoder", False):
        raise ValueError(
            f"The Keras variants need a BERT with is_decoder=False, and '{name}' has True; "
            "the PyTorch variants take it."
        )
    encoder = BertEncoder(
        hidden_act=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
        attention_dropout=config.attention_probs_dropout_prob,
        vocabulary=getattr(config, "vocabulary", None),
        vocabulary_size=config.vocab_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        hidden_dim=config.hidden_size,
        intermediate_dim=config.intermediate_size,
        dropout=config.hidden_dropout_prob,
        max_sequence_length=config.max_position_embeddings,
        num_segments=config.type_vocab_size,
    )
    for parameter, variable in twins(bert, encoder):
        copy(parameter, variable)
    return encoder


def twins(bert, backbone) -> list:
    """(PyTorch parameter, Keras variable) for every weight of a BERT.

    Raises ValueError if the layers differ, or a setting that no weight's shape shows.
    """
    more = getattr(backbone, "more", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-12})  # KerasHub's own settings
    ours = (ACTIVATIONS.get(bert.config.hidden_act), bert.config.layer_norm_eps, bert.config.num_attention_heads)
    theirs = (ACTIVATIONS[more["hidden_act"]], more["layer_norm_eps"], backbone.num_heads)
    if ours != theirs:
        raise ValueError("The models differ: their encoders' activation, epsilon or number of heads is not the same.")
    parameters, pairs = dict(bert.named_parameters()), []
    for variable in backbone.weights:
        name = variable.path
        for keras_name, bert_name in BERT_NAMES.items():
            name = name.replace(keras_name, bert_name)
        pairs.append((name, variable))
    if {name for name, _ in pairs} != set(parameters):
        raise ValueError("The models differ: their encoders have not the same layers.")
    return [(parameters[name], variable) for name, variable in pairs]


def copy(parameter, variable) -> None:
    """A PyTorch parameter into its Keras twin. Keras stores a kernel with its inputs first, PyTorch its outputs."""
    value = parameter.detach().float().cpu().numpy()
    variable.assign(np.reshape(value.T if variable.name == "kernel" else value, variable.shape))


def head_twins(torch_model, keras_model) -> list:
    """(PyTorch parameter, Keras variable) for every weight of the heads. ValueError if the heads have other layers."""
    names = [f"conv_{k}" for k in torch_model.config.kernel_sizes] + ["hidden_layer", "classifier"]
    modules = [*torch_model.convs, torch_model.hidden_layer, torch_model.classifier]
    names += [f"sentence_conv_{k}" for k in getattr(torch_model.config, "sentence_kernel_sizes", ())]  # of summaries
    modules += getattr(torch_model, "sentence_convs", ())
    ours = {name: module for name, module in zip(names, modules, strict=True) if module is not None}
    theirs = [layer for layer in keras_model.layers if hasattr(layer, "kernel")]
    if [layer.name for layer in theirs] != list(ours):
        raise ValueError(f"The models differ: one has the layers {list(ours)}, one {[layer.name for layer in theirs]}.")
    layers = zip(ours.values(), theirs, strict=True)
    return [pair for module, layer in layers for pair in ((module.weight, layer.kernel), (module.bias, layer.bias))]
