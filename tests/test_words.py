"""No private words: what every reader sees is plain English and uses the field's terms.

The list has phrases that readers of the series stumbled over, and for each what to write instead.
"""

import io
import re
import subprocess
import tokenize
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
BANNED = {  # a pattern -> what to write instead
    r"\banew\b": "again, from scratch",
    r"\bamiss\b": "wrong",
    r"\b[Ww]hoever\b": "anyone who, a reader who",
    r"\bin (the )?midst of\b": "within",
    r"\blearnt\b(?![`*,\]\[)} =])": "learned",
    r"\bunasked\b": "without being asked",
    r"\bthaw(s|ed|ing)?\b": "make trainable",
    r"\b(vector|row|mark|map|line|point|sentences) an? (token|word|dataset|rival|run|text|review)\b": "per",
    r"\b(would not|does not|did not|never) arrive\b": "does not converge",
    r"\bwaver(s|ed|ing)?\b": "varies by chance",
    r"\b(would|that|which|those) ring\b": "is significant",
    r"\b(measures|curves|lines|scores) part\b": "disagree, diverge",
    r"\bthe three one\b": "the same",
    r"\btoo good to be true\b": "optimistic",
    r"\b(bias|text|review|can) wakes?\b": "a filter fires, a value is above 0",
    r"\bwhose loss is felt\b": "words whose removal lowers the logit",
    r"\bnobody fails less\b": "every model fails more",
    r"\bmean, as large as\b": "a parameter-matched MLP on the mean",
    r"\bcannot tell on\b": "inconclusive on",
    r"\bbusiness\b(?! (day|card|plan))": "is ignored, shows",
    r"\bleans? on a single\b": "depends on",
    r"\b(had|has|have) no say\b": "are ignored",
    r"\b[Ss]omebody who gives\b": "guessing uniformly",
    r"\bonly, its weights\b": "except that its weights",
    r"\bpulls? how hard\b": "contributes to the gradient",
    r"\bmatter for the libraries\b": "the library does it",
    r"\b(classified|predicted|labelled) rightly\b": "correctly",
    r"\bbut so many updates\b": "minimum number of updates",
    r"\bkeep them; the row\b": "Score and store a cell; return its row.",
    r"\bnobody's rate\b": "no learning rate was tuned",
    r"\bstays shut\b": "is not used",
    r"\bsame dealer\b": "the same function",
    r"\bsource article\b": "the three snippets this series started from",
    r"\bworth its trouble\b": "worth its cost",
    r"\bgoes? on where\b": "resumes where",
    r"\bwhat came out\b": "the output",
    r"\bmany trainings\b": "training runs",
}
IN_OTHER_HANDS: tuple[str, ...] = ()


def words_of_code(source: str) -> str:
    """The comments and the strings of Python code: docstrings and messages are strings."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(token.string for token in tokens if token.type in kinds)


def words_of(path: Path) -> str:
    """What a reader of the file reads."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return words_of_code(text)
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        cells = [cell for cell in cells if "colab" not in cell.metadata.get("tags", [])]  # that one is no Python
        return "\n\n".join(words_of_code(c.source) if c.cell_type == "code" else c.source for c in cells)
    return text


def found_in(text: str) -> list[str]:
    """The banned phrases of a text, each with what to write instead."""
    text = re.sub(r"\s+", " ", text)
    return [f"'{m[0]}': {instead}" for banned, instead in BANNED.items() for m in re.finditer(banned, text)]


def tracked() -> list[Path]:
    """The files that people read, without tests of language and the texts of corpora."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = [ROOT / name for name in names if name.endswith((".md", ".py", ".ipynb", ".yml")) or name == "Makefile"]
    return [path for path in paths if path.exists() and path.name != Path(__file__).name]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone: the list of files is git's")
def test_no_private_words():
    found = {}
    for path in tracked():
        if path.suffix == ".ipynb" and path.name.startswith(IN_OTHER_HANDS):
            continue
        if phrases := found_in(words_of(path)):
            found[path.relative_to(ROOT).as_posix()] = phrases
    assert not found


@pytest.mark.parametrize(
    "sentence",
    [
        "BERT returns one vector a token.",
        "It would not arrive\notherwise.",
        "In which epoch do the curves part?",
        "Check what is amiss.",
        "What stands at padding is nobody's business.",
    ],
)
def test_a_private_word_is_noticed(sentence):
    assert found_in(sentence)


def test_comments_and_messages_are_read_and_names_are_not():
    code = 'amiss = 1  # anew\nraise ValueError("This is what came out.")\n'
    assert len(found_in(words_of_code(code))) == 2
