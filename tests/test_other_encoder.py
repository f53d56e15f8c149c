"""The notebooks on the model run with another encoder: COMPANION_ENCODER names it, and nothing else changes.

The encoder is small and random. It is of BERT-base's kind where the embedded one is not: exact GELU, dropout in
training, capital letters, a vocabulary of its own.
"""

from pathlib import Path

import nbformat
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from companion.data import load_dataset
from companion.encoders import load_pytorch_encoder, load_tokenizer
from tools import series

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FIXED = {"09", "10", "11"}  # they read the ready-made classifier and stored results, whatever the encoder
TWO_SENSES = "score light like kind"  # notebook 01 wants each as one token


@pytest.fixture(scope="module")
def cased_encoder(tmp_path_factory) -> str:
    """A folder with a random BERT, 2 layers of 64, and a cased tokenizer that was trained on matinee."""
    folder = tmp_path_factory.mktemp("cased")
    texts = [text for split in load_dataset("matinee").values() for text in split["text"]]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=2000, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator([*texts, *[TWO_SENSES] * 1000], trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **special)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = transformers.BertConfig(
        vocab_size=len(fast), max_position_embeddings=128, initializer_range=0.1, hidden_act="gelu", **sizes
    )
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def test_the_encoder_is_of_another_kind(cased_encoder):
    ours, theirs = (load_pytorch_encoder(name).config for name in ("embedded", cased_encoder))
    assert (ours.hidden_act, theirs.hidden_act) == ("gelu_pytorch_tanh", "gelu")
    assert theirs.hidden_dropout_prob == theirs.attention_probs_dropout_prob == 0.1
    one, other = (load_tokenizer(name) for name in ("embedded", cased_encoder))
    assert len(one) != len(other)
    assert one.tokenize("A Film") == ["a", "film"] and "".join(other.tokenize("A Film")).replace("##", "") == "AFilm"


def texts_of(notebook) -> list[str]:
    """What the cells print and show."""
    outputs = [output for cell in series.code_cells(notebook) for output in cell.outputs]
    return [output.get("text") or str(output.get("data", {}).get("text/html")) for output in outputs]


@pytest.mark.parametrize("number", sorted({f"{n:02}" for n in range(15)} - FIXED))
def test_a_notebook_runs_with_another_encoder(cased_encoder, number, monkeypatch):
    monkeypatch.setenv("COMPANION_ENCODER", cased_encoder)
    monkeypatch.setenv("PYTHONPATH", str(series.ROOT))
    (path,) = series.notebooks([number])
    notebook = nbformat.read(path, as_version=4)
    stored = texts_of(notebook)
    assert series.execute(notebook, Path(path.parent)) is None
    assert texts_of(notebook) != stored  # these were made with the embedded encoder
