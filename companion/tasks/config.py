"""Settings of the tagger and of the summarizer; a document's model has those of a sentence's classifier."""

from companion.config import BertCNNConfig


class TaggingConfig(BertCNNConfig):
    """As `BertCNNConfig`, with odd `kernel_sizes`, as windows have a centre; (1,) is an MLP, () a linear layer."""

    model_type = "bert_cnn_tagging"

    def __init__(self, kernel_sizes=(1, 3, 5), **settings):
        linear = isinstance(kernel_sizes, (tuple, list)) and not kernel_sizes
        super().__init__(kernel_sizes=(1,) if linear else kernel_sizes, **settings)
        if any(k % 2 == 0 for k in self.kernel_sizes):
            raise ValueError(f"Centred windows need odd kernel sizes, as in (1, 3, 5), not {kernel_sizes}.")
        self.kernel_sizes = () if linear else self.kernel_sizes


class SummaryConfig(BertCNNConfig):
    """As `BertCNNConfig`, with one output and `sentence_kernel_sizes`, odd or (), of the second convolution."""

    model_type = "bert_cnn_summaries"

    def __init__(self, sentence_kernel_sizes=(3,), num_labels=1, **settings):
        super().__init__(num_labels=num_labels, **settings)
        if self.num_labels != 1:
            raise ValueError(f"A sentence gets one score: num_labels must be 1, not {self.num_labels}.")
        self.sentence_kernel_sizes = TaggingConfig(sentence_kernel_sizes).kernel_sizes

    @property
    def head(self) -> dict:
        return {**super().head, "sentence_kernel_sizes": self.sentence_kernel_sizes}
