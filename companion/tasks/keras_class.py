"""Keras, as classes: the series' `BertCNN` on documents, tokens and sentences. Inputs are a dict of arrays."""

from companion import keras_class
from companion.quiet import keras
from companion.tasks.config import SummaryConfig, TaggingConfig

ops, register = keras.ops, keras.saving.register_keras_serializable("companion")


def centre(convs, hidden, mask):
    """ReLU of the k-token window centred on each token: (B, T, D) -> K x (B, T, F). k is odd; zeros beyond the text."""
    mask = ops.cast(mask, hidden.dtype)[..., None]  # (B, T, 1)
    return [conv(ops.pad(hidden * mask, ((0, 0), [conv.kernel_size[0] // 2] * 2, (0, 0)))) * mask for conv in convs]


class TaskCNN(keras_class.BertCNN):
    """What the three tasks share: output layers of any width, and pieces of a text, read one after the other."""

    smallest = (1, 1, 2)

    @classmethod
    def from_pretrained(cls, name="classifier"):
        """A model that the PyTorch class of the same name has saved; a `DocumentCNN` also reads a saved `BertCNN`."""
        from companion.tasks import pytorch_class

        return keras_class.load_pretrained(name, cls.from_encoder, getattr(pytorch_class, cls.__name__))

    def build(self, input_shape=None):
        if self.built:
            return
        for conv in self.convs:  # JAX cannot create weights inside `ops.map`
            conv.build((None, None, self.encoder.hidden_dim))
        one = ops.ones(self.smallest, "int32")  # reading two tokens makes every other layer's weights
        self.call({"input_ids": one, "attention_mask": one, "window_mask": one})
        self.built = True

    def read(self, *inputs, training=None):
        """The strongest window of each filter in each piece: (B, P, T) -> (B, P, K*F); 0 for pieces of padding."""

        def read_piece(piece):
            input_ids, attention_mask, window_mask = piece  # (B, T)
            maps = self.convolve(self.embed(input_ids, attention_mask, training), attention_mask)
            return self.pool([windows * ops.cast(window_mask, windows.dtype)[..., None] for windows in maps])

        inputs = [ops.swapaxes(x, 0, 1) for x in inputs]  # (P, B, T)
        if keras.backend.backend() == "jax":  # inside `ops.map` it cannot update the state of dropout
            return ops.stack([read_piece(piece) for piece in zip(*inputs, strict=True)], axis=1)
        return ops.swapaxes(ops.map(read_piece, inputs), 0, 1)  # (B, P, K*F)


@register
class DocumentCNN(TaskCNN):
    """A document's class. Its weights are those of a `BertCNN`."""

    def call(self, inputs, training=None):
        """Pieces (B, P, T), as `documents.cut` makes them -> logits (B, C)."""
        pieces = self.read(inputs["input_ids"], inputs["attention_mask"], inputs["window_mask"], training=training)
        return self.classify(ops.max(pieces, axis=1), training)


@register
class TaggingCNN(TaskCNN):
    """A class for each token, from the windows centred on it."""

    config_class, smallest = TaggingConfig, (1, 2)

    def __init__(self, encoder, kernel_sizes=(1, 3, 5), **settings):
        super().__init__(encoder, kernel_sizes or (1,), **settings)
        if not kernel_sizes:
            self.convs.clear()
            self.settings["kernel_sizes"] = ()

    def convolve(self, hidden, attention_mask):
        """ReLU of the k-token window centred on each token: (B, T, D) -> K x (B, T, F); without kernels, `hidden`."""
        return centre(self.convs, hidden, attention_mask) or [hidden]

    def call(self, inputs, training=None):
        """Tokens (B, T) -> logits (B, T, C)."""
        hidden = self.embed(inputs["input_ids"], inputs["attention_mask"], training)
        maps = self.convolve(hidden, inputs["attention_mask"])
        features = ops.concatenate(maps, axis=2)  # (B, T, K*F): no pooling, each token keeps its own windows
        return self.classify(features, training)


@register
class SummaryCNN(TaskCNN):
    """A score for each sentence: `pool` per sentence, then a second convolution over the sequence of sentences."""

    config_class = SummaryConfig

    def __init__(self, encoder, num_filters=100, num_labels=1, sentence_kernel_sizes=(3,), **settings):
        super().__init__(encoder, num_filters=num_filters, num_labels=num_labels, **settings)
        sizes = self.settings["sentence_kernel_sizes"] = SummaryConfig(sentence_kernel_sizes).sentence_kernel_sizes
        relu = {"activation": "relu", "dtype": self.dtype_policy}
        self.sentence_convs = [keras.layers.Conv1D(num_filters, k, name=f"sentence_conv_{k}", **relu) for k in sizes]

    def call(self, inputs, training=None):
        """Sentences (B, S, T) -> logits (B, S)."""
        mask = inputs["attention_mask"]
        sentences = self.read(inputs["input_ids"], mask, mask, training=training)  # (B, S, K*F)
        maps = centre(self.sentence_convs, sentences, ops.any(mask, axis=2)) or [sentences]
        return self.classify(ops.concatenate(maps, axis=2), training)[..., 0]


@register
def marked_cross_entropy(labels, logits):
    """The loss of a `SummaryCNN`: binary cross-entropy of the sentences whose labels (B, S) are not -100.

    One value for each document, (B,), as `sample_weight` needs; their mean is that over the sentences of the batch.
    """
    marked = ops.cast(ops.not_equal(labels, -100), logits.dtype)
    loss = ops.binary_crossentropy(ops.cast(labels, logits.dtype) * marked, logits, from_logits=True)
    return ops.sum(loss * marked, axis=1) / ops.maximum(ops.mean(ops.sum(marked, axis=1)), 1e-7)
