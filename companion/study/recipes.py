"""How each classifier is trained: every setting that changes a result is a named field of its recipe.

DEFAULTS has a recipe for each regime. GRID has the settings that `--tune` tries, the same number for every head, on
validation data only. Two results may be compared if their `protocol` is the same.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import pandas as pd

from companion.study.specs import HEADS
from companion.study.splits import LIMITS

TUNING = ["dataset", "head", "regime", "encoder"]  # what settings are chosen for
TUNED = ["head_rate", "encoder_rate", "dropout", "regression_c", "ngrams"]  # what is chosen


@dataclass(frozen=True)
class Recipe:
    """All settings of one training."""

    epochs: int
    min_updates: int  # more epochs where the data are small
    head_rate: float  # learning rate of the head
    encoder_rate: float  # learning rate of the encoder; 0 for a frozen one
    dropout: float = 0.1  # before the output layer
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup_share: float = 0.05  # of the updates; then the rates fall linearly to 0
    evaluations: int = 10  # on validation, at most one per epoch; the model with the best accuracy is kept
    output_scale: float = 0.01  # of the output layer's first weights (Glorot's times this), as in the four spellings
    max_length: int = 256  # tokens; what is cut for the encoder is cut for TF-IDF, too
    precision: str = "fp32"  # or "bf16"
    regression_c: float = 1.0  # of a logistic regression: inverse strength of its regularization
    ngrams: int = 2  # of TF-IDF: the longest n-gram
    examples: int = 0  # train on so many at most; 0 for all

    @property
    def checksum(self) -> str:
        """The start of a checksum over all fields."""
        return _checksum(asdict(self))


DEFAULTS = {
    "frozen": Recipe(epochs=4, min_updates=400, head_rate=1e-3, encoder_rate=0.0),
    "fine-tuned": Recipe(epochs=2, min_updates=400, head_rate=1e-3, encoder_rate=2e-4),
    "trained": Recipe(epochs=4, min_updates=400, head_rate=1e-3, encoder_rate=1e-3),
}
GRID: dict[str, dict[str, tuple]] = {  # four settings for each classifier; the first value of each field is the default
    "linear": {"regression_c": (1.0, 10.0, 0.1, 0.01)},
    "frozen": {"head_rate": (1e-3, 3e-4), "dropout": (0.1, 0.5)},
    "fine-tuned": {"encoder_rate": (2e-4, 1e-4), "dropout": (0.1, 0.5)},
    "trained": {"head_rate": (1e-3, 3e-4), "dropout": (0.1, 0.5)},
    "tfidf": {"regression_c": (10.0, 1.0), "ngrams": (2, 1)},
}
SHORTER: dict[str, dict] = {  # a fine-tuned encoder is tuned on less
    "fine-tuned": {"examples": 2000, "min_updates": 200}
}
TUNING_SEED = 1000  # outside the reported seeds


def _checksum(what) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:8]


def settings(head: str, regime: str, precision: str = "fp32") -> list[Recipe]:
    """The recipes that tuning tries; the first is the one of a head that was not tuned."""
    part = "tfidf" if head == "tfidf" else "linear" if regime == "frozen" and HEADS[head].linear else regime
    grid, recipe = GRID[part], replace(DEFAULTS[regime], precision=precision)
    return [replace(recipe, **dict(zip(grid, values, strict=True))) for values in product(*grid.values())]


def default(head: str, regime: str, precision: str = "fp32") -> Recipe:
    """The recipe of a head that was not tuned."""
    return settings(head, regime, precision)[0]


def shorter(recipe: Recipe, regime: str) -> Recipe:
    """A recipe as tuning runs it: a fine-tuned encoder sees fewer examples, in fewer updates."""
    return replace(recipe, **SHORTER.get(regime, {}))


def protocol(precision: str = "fp32") -> str:
    """The start of a checksum over the defaults, what is tuned, and how: what all results of a comparison share."""
    shared = {regime: asdict(replace(recipe, precision=precision)) for regime, recipe in DEFAULTS.items()}
    return _checksum((shared, GRID, SHORTER, TUNING_SEED, LIMITS))


def identity(head: str, recipe: Recipe) -> str:
    """What the results say of a training: the protocol's checksum, and one of the head's own settings and sizes."""
    own = recipe.checksum, HEADS[head].module, HEADS[head].options
    return f"{protocol(recipe.precision)}-{_checksum(own)}"


def read_tuning(path: Path) -> pd.DataFrame:
    """tuning.csv: a row for each setting that was tried. An empty table where there is no file."""
    names = [*TUNING, *TUNED, "recipe", "protocol", "accuracy", "loss", "seconds", "versions", "hardware"]
    if not path.exists():
        return pd.DataFrame(columns=names)
    return pd.read_csv(path, dtype=dict.fromkeys([*TUNING, "recipe", "protocol"], str), keep_default_na=False)


def chosen(tuning: pd.DataFrame, dataset: str, head: str, regime: str, encoder: str, precision: str = "fp32") -> Recipe:
    """The setting with the highest validation accuracy, of equal ones the lowest loss; the default if none was tried.

    A part of a dataset ("NAME~50") takes what was chosen for the whole.
    Raises ValueError, with one sentence, if only some of the settings have been tried.
    """
    key = [dataset.split("~")[0], head, regime, encoder]
    found = tuning[(tuning[TUNING] == key).all(axis=1) & tuning["protocol"].eq(protocol(precision))]
    tried = {recipe.checksum: recipe for recipe in settings(head, regime, precision)}
    if found.empty:
        return default(head, regime, precision)
    if missing := set(tried) - set(found["recipe"]):
        raise ValueError(
            f"{len(missing)} of {len(tried)} settings of {head}, {regime}, on {key[0]} are untried; finish --tune."
        )
    best = found.astype({"accuracy": float, "loss": float}).sort_values(["accuracy", "loss"], ascending=[False, True])
    return tried[best["recipe"].iloc[0]]
