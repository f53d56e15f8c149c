"""Everything the four variants share."""

from collections.abc import Iterable
from numbers import Integral, Real

from transformers import AutoConfig, PreTrainedConfig

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


def is_count(value) -> bool:
    """Whether a value is a whole number of at least 1, Python's or NumPy's."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


class BertCNNConfig(PreTrainedConfig):
    """Settings of a BERT-CNN. The defaults are those of Kim (2014, section 3.1).

    kernel_sizes: widths of the convolutions' windows, in tokens.
    num_filters: filters (feature maps) for each kernel size.
    dropout: share of the pooled features dropped in training, 0 <= dropout < 1.
    num_labels: number of classes; 1 for a regression.
    hidden_units: size of a dense ReLU layer before the output; None for none.
    encoder_config: the encoder's own settings (a Hugging Face config, or the dict of one).
    problem_type: one of `PROBLEM_TYPES`, as in transformers: it decides the loss. None: the labels decide.

    Raises ValueError, with one sentence, for a setting that makes no model.
    """

    model_type = "bert_cnn"
    sub_configs = {"encoder_config": AutoConfig}

    def __init__(
        self,
        kernel_sizes=(3, 4, 5),
        num_filters=100,
        dropout=0.5,
        num_labels=2,
        hidden_units=None,
        encoder_config=None,
        **kwargs,
    ):
        sizes = tuple(kernel_sizes) if isinstance(kernel_sizes, Iterable) else ()
        if not sizes or not all(map(is_count, sizes)):
            raise ValueError(f"kernel_sizes must be whole numbers of at least 1, as in (3, 4, 5), not {kernel_sizes}.")
        if len(set(sizes)) < len(sizes):
            raise ValueError(f"kernel_sizes must differ from each other, not {kernel_sizes}.")
        for name, value in {"num_filters": num_filters, "num_labels": num_labels, "hidden_units": hidden_units}.items():
            if not is_count(value) and not (name == "hidden_units" and value is None):
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}.")
        if not isinstance(dropout, Real) or not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, not {dropout!r}.")
        if (problem := kwargs.get("problem_type")) not in (None, *PROBLEM_TYPES):
            raise ValueError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, or None, not {problem!r}.")
        if isinstance(encoder_config, dict):
            encoder_config = AutoConfig.for_model(**encoder_config)
        # as Python's own numbers, which JSON can hold: NumPy's will do as arguments
        self.kernel_sizes = tuple(map(int, sizes))
        self.num_filters = int(num_filters)
        self.dropout = float(dropout)
        self.hidden_units = hidden_units and int(hidden_units)
        self.encoder_config = encoder_config
        if names := kwargs.get("id2label"):  # a saved config holds the labels' names, and not their number
            if sorted(map(int, names)) != list(range(len(names))) or num_labels not in (2, len(names)):
                raise ValueError(f"id2label must name the classes 0 to num_labels - 1, and not {names}.")
            num_labels = len(names)
        super().__init__(num_labels=int(num_labels), **kwargs)

    @classmethod
    def of(cls, **settings):
        """A config for a new model. Raises ValueError for an unknown setting, which a saved config may contain."""
        if unknown := [name for name in settings if not hasattr(cls(), name)]:
            raise ValueError(f"A BERT-CNN has no setting {', '.join(unknown)}; see BertCNNConfig.")
        return cls(**settings)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """Read a saved config. Raises ValueError if it belongs to another kind of model."""
        if (kind := config_dict.get("model_type", cls.model_type)) != cls.model_type:
            raise ValueError(f"The saved model is of type '{kind}'; this class reads '{cls.model_type}'.")
        return super().from_dict(config_dict, **kwargs)

    @property
    def head(self) -> dict:
        """What describes the head alone: arguments that make it again, in either framework."""
        names = ("kernel_sizes", "num_filters", "dropout", "num_labels", "hidden_units")
        return {name: getattr(self, name) for name in names}
