"""The classifiers that are compared: one row for each, which the rest of the study goes by.

A classifier is (head, regime): ("cnn", "frozen"), ("tfidf", "trained").
"""

from dataclasses import dataclass, field

REGIMES = ("frozen", "fine-tuned")  # what happens to the encoder
SCRATCH = ("trained",)  # without BERT's layers everything is trained from scratch
MATCHED = "as many parameters as the CNN"


@dataclass(frozen=True)
class Spec:
    """One classifier of the comparison.

    label: what it is, in words that fit after "against".
    module: the class in `companion.study.heads`; "" for TF-IDF, which is no network.
    options: arguments of that class; MATCHED stands for the size that gives as many parameters as the CNN. `dropout`
        and `output_scale` replace those of the recipe.
    regimes: the regimes in which it can be trained.
    rival: is it a headline rival of the CNN, on the same vectors?
    ablation: is it the CNN with one part changed? Ablations are trained only when they are named.
    """

    label: str
    module: str = "Pooled"
    options: dict = field(default_factory=dict)
    regimes: tuple[str, ...] = REGIMES
    rival: bool = False
    ablation: bool = False

    @property
    def linear(self) -> bool:
        """Is it one linear layer on a pooled vector? On frozen vectors that is a logistic regression."""
        return self.module == "Pooled" and "hidden_units" not in self.options

    @property
    def bert(self) -> bool:
        """Does it need BERT's layers?"""
        return self.regimes != SCRATCH

    def random(self, regime: str) -> bool:
        """Does its training depend on the seed? A logistic regression has one optimum."""
        return not (self.module == "" or (self.linear and regime == "frozen"))

    @property
    def layers(self) -> int:
        """How many of the encoder's last layers it reads, side by side."""
        return self.options.get("layers", 1)


def _ablated(*kernel_sizes: int) -> Spec:
    return Spec(f"a CNN with windows of {kernel_sizes}", "CNN", {"kernel_sizes": kernel_sizes}, ablation=True)


TOKENS = {"kernel_sizes": (1,), "num_filters": MATCHED}
OLD_START = {"dropout": 0.5, "output_scale": 1.0}
HEADS = {
    "cls": Spec("the vector of [CLS]", options={"pool": "first"}, rival=True),
    "mean": Spec("the mean of the vectors", options={"pool": "mean"}, rival=True),
    "max": Spec("their maximum", options={"pool": "strongest"}, rival=True),
    "mlp": Spec("a parameter-matched MLP on the mean", "Pooled", {"hidden_units": MATCHED}, rival=True),
    "token_mlp": Spec("`token_mlp`, a dense ReLU layer per token followed by max pooling", "CNN", TOKENS, rival=True),
    "cnn_1": Spec("300 filters of one token", "CNN", {"kernel_sizes": (1,)}, rival=True),
    "cnn": Spec("the CNN", "CNN"),
    "cnn_last4": Spec("the CNN over the last four layers", "CNN", {"layers": 4}),
    "static_cnn": Spec("the same CNN over the word embeddings alone", "CNN", regimes=SCRATCH),
    "tfidf": Spec("TF-IDF with logistic regression", "", regimes=SCRATCH),
    "cnn_3": _ablated(3),
    "cnn_4": _ablated(4),
    "cnn_5": _ablated(5),
    "cnn_3_4": _ablated(3, 4),
    "cnn_3_5": _ablated(3, 5),
    "cnn_4_5": _ablated(4, 5),
    "cnn_old_start": Spec("the CNN with a dropout of 0.5 and Glorot's output layer", "CNN", OLD_START, ablation=True),
    "cnn_unmasked": Spec("the CNN without the mask", "CNN", {"masked": False}, ablation=True),
}
RIVALS = {name: spec.label for name, spec in HEADS.items() if spec.rival}
NO_BERT = {name: spec.label for name, spec in HEADS.items() if not spec.bert}
MAIN = [name for name, spec in HEADS.items() if not spec.ablation]  # what is trained unless heads are named
