"""Pretrain a small BERT on unlabelled text: masked language modelling (Devlin et al. 2019, section 3.1).

OUT becomes an encoder in Hugging Face layout. The same command goes on from the last of OUT/checkpoints.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from scipy.sparse import coo_matrix
from sklearn.decomposition import TruncatedSVD
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

from companion.files import read_splits

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BLOCK = 2048  # tokens; a batch is one or more blocks, cut into rows of one of these lengths
ROW_LENGTHS = (64, 64, 128, 256)


def read_texts(source: str, splits: list[str] | None) -> list[str]:
    """Every text of the chosen splits (all but "test" by default), line-break tags removed."""
    dataset = read_splits(source)
    names = splits or [name for name in dataset if name != "test"]
    for name in names:
        if name not in dataset or "text" not in dataset[name].column_names:
            raise ValueError(f"'{source}' has no split '{name}' with a column 'text'; its splits are {list(dataset)}.")
    texts = [text.replace("<br />", " ") for name in names for text in dataset[name]["text"] if text.strip()]
    if not texts:
        raise ValueError(f"'{source}' holds no text in the splits {names}.")
    return texts


def train_tokenizer(texts: list[str], size: int, max_length: int) -> transformers.BertTokenizerFast:
    """A lower-casing WordPiece tokenizer with BERT's five special tokens."""

    def untrained(vocabulary=None):
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer

    # The trainer numbers letters within words in an order of chance, which decides between equally frequent pieces.
    # So the letters are found first, and given in alphabetical order; a last tokenizer has them as ordinary pieces.
    given = SPECIAL
    for last in (0, size):
        tokenizer = untrained()
        tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=last, special_tokens=given))
        given = SPECIAL + sorted(piece for piece in tokenizer.get_vocab() if piece.startswith("##"))
    tokenizer = untrained(tokenizer.get_vocab())
    tokenizer.add_special_tokens(SPECIAL)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return transformers.BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length)


def pack(tokenizer, texts: list[str]) -> np.ndarray:
    """All texts as one line of token ids, [SEP] after each, folded into blocks: (N, BLOCK) uint16."""
    parts = []
    for start in range(0, len(texts), 1000):
        encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts[start : start + 1000], add_special_tokens=False)
        parts += [np.array([*row.ids, tokenizer.sep_token_id], np.uint16) for row in encoded]
    line = np.concatenate(parts)
    if len(line) < 4 * BLOCK:
        raise ValueError(f"{len(line):,} tokens of text are too few to pretrain on; at least {4 * BLOCK:,} are needed.")
    return line[: len(line) // BLOCK * BLOCK].reshape(-1, BLOCK)


class MaskedRows(DataCollatorForLanguageModeling, transformers.TrainerCallback):
    """Blocks -> a batch of [CLS] ... [SEP] rows, all of one length, some of their tokens masked."""

    epoch = 0

    def on_epoch_begin(self, args, state, control, **_):
        self.epoch = int(state.epoch)

    def __call__(self, blocks):
        tokens = torch.from_numpy(np.stack([block["tokens"] for block in blocks]).astype(np.int64))
        torch.manual_seed(tokens.sum().item() + self.epoch)  # new masks each epoch, the same after an interruption
        rows = tokens.view(-1, ROW_LENGTHS[torch.randint(len(ROW_LENGTHS), ()).item()])
        rows[:, 0], rows[:, -1] = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        input_ids, labels = self.torch_mask_tokens(rows, special_tokens_mask=rows < len(SPECIAL))
        return {"input_ids": input_ids, "labels": labels}


class SparseBert(BertForMaskedLM):
    """BERT that predicts the masked tokens only: the vocabulary-wide layer skips the other 80%."""

    def forward(self, input_ids, labels):
        hidden = self.bert(input_ids).last_hidden_state  # (B, T, D)
        masked = labels != -100  # (B, T)
        logits = self.cls(hidden[masked]).float()  # (masked, V)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels[masked]), "logits": logits}


def ppmi_vectors(blocks: np.ndarray, vocabulary: int, width: int, window: int = 4) -> np.ndarray:
    """Word vectors from counts: an SVD of positive pointwise mutual information (Levy & Goldberg 2014).

    Embeddings that start from them leave the first plateau of the loss millions of tokens earlier.
    """
    line, shape = blocks.reshape(-1), (vocabulary, vocabulary)
    near = [(line[:-distance], line[distance:]) for distance in range(1, window + 1)]
    counts = sum(coo_matrix((np.ones(len(a), np.float32), (a, b)), shape).tocsr() for a, b in near)
    counts = (counts + counts.T).tocoo()
    totals = np.asarray(counts.sum(axis=1)).ravel()
    common = totals**0.75 / (totals**0.75).sum()  # flattened, else rare words come out as near to everything
    pmi = np.log(counts.data / totals[counts.row] / common[counts.col])
    ppmi = coo_matrix((np.maximum(pmi, 0), (counts.row, counts.col)), shape)
    vectors = TruncatedSVD(width, random_state=0).fit_transform(ppmi.tocsr())
    vectors /= np.maximum(vectors.std(axis=0), 1e-6) ** 0.5  # singular values to the power of a half
    vectors -= vectors.mean(axis=0)
    return 0.05 * vectors / max(vectors.std(), 1e-6)


def look_at_neighbours(bert: transformers.BertModel) -> None:
    """Start position vectors as sinusoids (Vaswani et al. 2017, section 3.5), heads of layer 0 as neighbour finders.

    Head h begins by attending one place to the left, one to the right, two to the left ...: its query is the
    position's sinusoid turned by that many places. Without it the model stays a bag of words for millions of tokens.
    """
    table = bert.embeddings.position_embeddings.weight.data  # (T, D)
    length, width = table.shape
    speed = 2.5 * torch.exp(-np.log(1000) * torch.arange(width // 2) / (width // 2))  # radians a place
    angle = torch.arange(length)[:, None] * speed
    table[:, 0::2], table[:, 1::2] = 0.07 * angle.sin(), 0.07 * angle.cos()
    attention = bert.encoder.layer[0].attention.self
    pairs = attention.attention_head_size // 2
    for head in range(attention.num_attention_heads):
        turn = (head // 2 + 1) * (-1 if head % 2 == 0 else 1) * speed[:pairs]
        rotation = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()], dim=1).view(-1, 2, 2)
        rows = slice(2 * pairs * head, 2 * pairs * (head + 1))
        attention.key.weight.data[rows, : 2 * pairs] += 1.5 * torch.eye(2 * pairs)
        attention.query.weight.data[rows, : 2 * pairs] += 1.5 * torch.block_diag(*rotation)


@torch.no_grad()
def masked_accuracy(model, blocks: np.ndarray, collate: MaskedRows) -> float:
    """Share of masked tokens of held-out text that the model names exactly, masks fixed by seed."""
    model.eval()
    torch.manual_seed(0)
    hits = []
    for block in blocks:
        batch = {name: tensor.to(model.device) for name, tensor in collate([{"tokens": block}]).items()}
        hits.append(model(**batch)["logits"].argmax(-1) == batch["labels"][batch["labels"] != -100])
    return torch.cat(hits).float().mean().item()


class Keeper(transformers.TrainerCallback):
    """A checkpoint takes its place when it is whole, and the one before goes only then. A line of progress at times."""

    def on_save(self, args, state, control, **_):
        written = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        kept = written.parents[1] / written.name
        os.replace(written, kept)
        for old in set(kept.parent.glob("checkpoint-*")) - {kept}:
            shutil.rmtree(old)

    def on_log(self, args, state, control, logs, **_):
        if "loss" in logs:
            speed = f"{float(logs['train_tokens_per_second']):,.0f} tokens/s"
            print(f"step {state.global_step} of {state.max_steps}  loss {float(logs['loss']):.3f}  {speed}", flush=True)


def write_json(path: Path, content: dict) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("data", help="Hub id or folder of a dataset with a column 'text'")
    parser.add_argument("out", type=Path, help="folder to write the encoder to")
    parser.add_argument("--splits", nargs="+", help="splits to read (default: all but test)")
    defaults = {"steps": 5000, "layers": 4, "width": 256, "vocabulary": 8192, "blocks": 1, "save_every": 250, "seed": 0}
    for name, value in defaults.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value, help=f"(default: {value})")
    parser.add_argument("--learning-rate", type=float, default=6e-4, help=f"a step is --blocks times {BLOCK} tokens")
    args = parser.parse_args(argv)
    recipe = {k: v for k, v in vars(args).items() if k not in ("out", "steps", "save_every")}

    work = args.out / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    if (work / "recipe.json").exists() and json.loads((work / "recipe.json").read_text()) != recipe:
        raise ValueError(f"{work} belongs to a run with other settings (see its recipe.json); give another folder.")
    if not (work / "recipe.json").exists():
        texts = read_texts(args.data, args.splits)
        tokenizer = train_tokenizer(texts, args.vocabulary, max(ROW_LENGTHS))
        tokenizer.save_pretrained(args.out)
        np.save(work / "blocks.npy", pack(tokenizer, texts))
        write_json(work / "recipe.json", recipe)
    tokenizer = transformers.BertTokenizerFast.from_pretrained(args.out)
    blocks = np.load(work / "blocks.npy")
    held_out = blocks[-max(1, len(blocks) // 100) :]
    training = datasets.Dataset.from_dict({"tokens": blocks[: -len(held_out)]}).with_format("numpy")

    transformers.set_seed(args.seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=args.width // 64,
        intermediate_size=4 * args.width,
        max_position_embeddings=max(ROW_LENGTHS),
        hidden_act="gelu_pytorch_tanh",  # KerasHub's BERT knows no other
        hidden_dropout_prob=0.0,  # the text is seen a few times only: nothing to overfit, and faster
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",  # the fastest on rows this short
    )
    model = SparseBert(config)
    checkpoint = transformers.trainer_utils.get_last_checkpoint(work)
    if checkpoint is None:
        vectors = torch.from_numpy(ppmi_vectors(blocks, config.vocab_size, args.width)).float()
        model.bert.embeddings.word_embeddings.weight.data.copy_(vectors)
        look_at_neighbours(model.bert)
    collate = MaskedRows(tokenizer, mlm_probability=0.2)
    shutil.rmtree(work / "unfinished", ignore_errors=True)
    trainer = Trainer(
        model,
        TrainingArguments(
            work / "unfinished",
            max_steps=args.steps,
            per_device_train_batch_size=args.blocks,
            learning_rate=args.learning_rate,
            lr_scheduler_type="warmup_stable_decay",  # a run cut short before its decay can still be brought to an end
            lr_scheduler_kwargs={"num_decay_steps": max(1, args.steps // 4)},
            warmup_steps=min(500, args.steps // 10),
            weight_decay=0.01,
            adam_beta2=0.98,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            disable_tqdm=True,
            include_num_input_tokens_seen="all",  # and tokens a second, beside the loss
            remove_unused_columns=False,  # the collator reads the column "tokens"
            seed=args.seed,
            logging_steps=100,
            save_steps=args.save_every,
            report_to="none",
        ),
        train_dataset=training,
        data_collator=collate,
        callbacks=[collate, Keeper],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    started = time.time()
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
        accuracy = masked_accuracy(model, held_out, MaskedRows(tokenizer, mlm_probability=0.2))
        # Half the bytes: weights are stored in half precision and read back in single.
        encoder = transformers.BertModel(config)
        encoder.load_state_dict(model.bert.state_dict(), strict=False)  # all but the pooler, which it never had
        encoder.half().save_pretrained(work / "unfinished")
    except (OSError, RuntimeError, SafetensorError) as error:
        if shutil.disk_usage(work).free > 16 * model.num_parameters():  # weights and AdamW's two moments, and some
            raise
        kept = transformers.trainer_utils.get_last_checkpoint(work) or "none"
        raise ValueError(f"The disk is full. Make room and start again; last good checkpoint: {kept}.") from error
    config = json.loads((work / "unfinished" / "config.json").read_text())
    write_json(work / "unfinished" / "config.json", config | {"dtype": "float32"})
    for name in ("config.json", "model.safetensors"):
        os.replace(work / "unfinished" / name, args.out / name)
    (args.out / "vocab.txt").write_text("\n".join(sorted(tokenizer.vocab, key=tokenizer.vocab.get)) + "\n")
    tokens = args.steps * args.blocks * BLOCK
    recipe["data"] = "/".join(Path(args.data).parts[-2:])  # no path of this machine
    facts = {"tokens": tokens, "masked_accuracy": round(accuracy, 4), "steps": args.steps}
    write_json(args.out / "pretraining.json", recipe | facts | {"last_run_seconds": round(time.time() - started)})
    print(f"{args.out}: {tokens / 1e6:.0f}M tokens, {accuracy:.1%} of masked held-out tokens named.")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        raise SystemExit(str(error)) from None
