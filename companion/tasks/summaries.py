"""Summaries by picking sentences: baselines, an oracle, precision at k, and ROUGE."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from companion.files import is_text


def encode(sentences, key, tokenizer, max_length: int = 128) -> list[dict]:
    """Return a row for each document: `input_ids`, `attention_mask` (S, T) and `labels` (S,), 1 for a key sentence.

    Raises ValueError, with one sentence, for a document with no sentence, or with other marks than one for each.
    """
    for i, (document, marks) in enumerate(zip(sentences, key, strict=True)):
        if isinstance(document, str) or not all(isinstance(s, str) and is_text(s) for s in document):
            raise ValueError(f"Document {i} is not a list of sentences that are text.")
        if not any(sentence.strip() for sentence in document):
            raise ValueError(f"Document {i} has no sentence.")
        if len(document) != len(marks) or set(marks) - {0, 1}:
            raise ValueError(f"Document {i} has {len(document)} sentences; `key` needs a 0 or 1 for each of them.")
    options = {"truncation": True, "max_length": min(max_length, tokenizer.model_max_length), "return_tensors": "np"}
    rows = [{**tokenizer(list(document), padding=True, padding_side="right", **options)} for document in sentences]
    return [row | {"labels": np.array(marks)} for row, marks in zip(rows, key, strict=True)]


def pick(scores, k: int) -> list[int]:
    """Return the k sentences of highest score, in the document's order; of equal ones the earlier."""
    if np.ndim(scores) != 1 or np.isnan(scores).any():
        raise ValueError("A summary needs one score for each sentence, and no NaN.")
    if not 1 <= k <= len(scores):
        raise ValueError(f"A summary of {k} sentences cannot be picked from a document of {len(scores)}.")
    return sorted(np.argsort(-np.asarray(scores, float), kind="stable")[:k].tolist())


def lead(sentences) -> np.ndarray:
    """Return scores (S,) by place: the first sentence has the highest."""
    return -np.arange(len(sentences))


def centrality(sentences) -> np.ndarray:
    """Return scores (S,): a sentence's cosine similarity to all sentences, summed up, in TF-IDF's dimensions."""
    vectors = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]").fit_transform(sentences)  # of length 1, or 0
    return np.asarray((vectors @ vectors.T).sum(axis=1)).ravel()


def oracle(sentences, references, k: int) -> np.ndarray:
    """Return scores (S,): k for the sentence with the best mean ROUGE, k - 1 for the one to add to it, ...; else 0."""
    scores = np.zeros(len(sentences))
    for rank in range(k, max(k - len(sentences), 0), -1):
        chosen, rest = np.flatnonzero(scores).tolist(), np.flatnonzero(scores == 0).tolist()
        texts = [" ".join(sentences[j] for j in sorted([*chosen, i])) for i in rest]
        scores[rest[np.argmax([sum(rouge(text, references).values()) for text in texts])]] = rank
    return scores


def rouge(summary: str, references) -> dict[str, float]:
    """Return rouge1, rouge2 and rougeL: F-measures after Porter's stemmer, the best over the references.

    references: a list of texts, or one text. Stop words are kept. rougeL is the longest common subsequence of the whole
    texts (Lin 2004, section 3.1). Raises ValueError where the references have none of the characters that it reads.
    """
    from rouge_score.rouge_scorer import RougeScorer

    references = [references] if isinstance(references, str) else list(references)
    if not any(letter.isascii() and letter.isalnum() for letter in " ".join(references)):
        raise ValueError("ROUGE reads the letters a to z and digits; the references have none.")
    scores = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score_multi(references, summary)
    return {name: score.fmeasure for name, score in scores.items()}


def precision(picked, key) -> float:
    """Return the share of the picked sentences that are key: precision at k."""
    return float(np.mean([key[i] == 1 for i in picked]))
