"""Everything the four variants share."""

from transformers import AutoConfig, PreTrainedConfig


class BertCNNConfig(PreTrainedConfig):
    """Settings of a BERT-CNN. The defaults are the source article's, after Kim (2014, section 3.1).

    kernel_sizes: widths of the convolutions' windows, in tokens.
    num_filters: filters (feature maps) for each kernel size.
    dropout: share of the pooled features dropped in training, 0 <= dropout < 1.
    num_labels: number of classes.
    hidden_units: size of a dense ReLU layer before the output; None for none.
    encoder_config: the encoder's own settings (a Hugging Face config, or the dict of one).

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
        sizes = kernel_sizes if isinstance(kernel_sizes, (tuple, list)) else ()
        if not sizes or any(not isinstance(k, int) or k < 1 for k in sizes):
            raise ValueError(f"kernel_sizes must be whole numbers of at least 1, as in (3, 4, 5), not {kernel_sizes}.")
        if len(set(kernel_sizes)) < len(kernel_sizes):
            raise ValueError(f"kernel_sizes must differ from each other, not {kernel_sizes}.")
        for name, value in {"num_filters": num_filters, "num_labels": num_labels, "hidden_units": hidden_units}.items():
            if not (isinstance(value, int) and value >= 1) and not (name == "hidden_units" and value is None):
                raise ValueError(f"{name} must be a whole number of at least 1, not {value}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, not {dropout}.")
        if isinstance(encoder_config, dict):
            encoder_config = AutoConfig.for_model(**encoder_config)
        self.kernel_sizes = tuple(kernel_sizes)
        self.num_filters = num_filters
        self.dropout = dropout
        self.hidden_units = hidden_units
        self.encoder_config = encoder_config
        if kwargs.get("id2label"):  # a saved config holds the labels' names, and not their number
            num_labels = len(kwargs["id2label"])
        super().__init__(num_labels=num_labels, **kwargs)

    @property
    def head(self) -> dict:
        """What describes the head alone: arguments that make it again, in either framework."""
        names = ("kernel_sizes", "num_filters", "dropout", "num_labels", "hidden_units")
        return {name: getattr(self, name) for name in names}
