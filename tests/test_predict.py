"""`python -m companion.predict`: every row once, whatever the format, the row's mistakes, or the moment of a kill."""

import gzip
import json
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import datasets
import filelock
import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from conftest import WORDS
from pyarrow import parquet

from companion.attribution import explain
from companion.encoders import load_tokenizer
from companion.predict import __main__ as command
from companion.predict import cluster, models, sources
from companion.predict.work import Job, digest
from companion.pytorch_class import BertCNN

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(random_encoder, tmp_path_factory) -> str:
    """A random model, saved with its tokenizer."""
    torch.manual_seed(3)
    made = BertCNN.from_encoder(random_encoder, num_filters=5, id2label={0: "bad", 1: "good"})
    made.classifier.weight.data *= 100  # a new output layer is small; labels should differ
    folder = tmp_path_factory.mktemp("saved")
    made.save_pretrained(folder)
    load_tokenizer(random_encoder).save_pretrained(folder)
    return str(folder)


def sentences(count: int) -> list[str]:
    """Different texts of one to nine words."""
    generator = np.random.default_rng(count)
    return [" ".join(generator.choice(WORDS, 1 + i % 9)) for i in range(count)]


def predict(*arguments) -> None:
    command.main([str(argument) for argument in arguments])


def read(folder) -> pd.DataFrame:
    return pd.read_parquet(folder).sort_values(["file", "line"], ignore_index=True)


def write(path: Path, texts: list[str]) -> None:
    """The texts in the format that the file's name says."""
    kind, number = path.suffixes[0], range(len(texts))
    if kind == ".parquet":
        table, size = pyarrow.table({"id": number, "text": texts}), 7 if len(texts) < 100 else 5000
        parquet.write_table(table, path, row_group_size=size)
    elif kind in (".csv", ".tsv"):
        pd.DataFrame({"id": number, "text": texts}).to_csv(path, index=False, sep="\t" if kind == ".tsv" else ",")
    else:
        lines = [json.dumps({"id": i, "text": t}) for i, t in enumerate(texts)] if kind == ".jsonl" else texts
        data = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.csv", "a.tsv", "a.txt"])
def test_every_format_gives_the_classes_of_the_model(name, model, tmp_path):
    texts = sentences(25)
    write(tmp_path / name, texts)
    predict(tmp_path / name, "--model", model, "--out", tmp_path / "out", "--rows", 10)
    found = read(tmp_path / "out")
    first = {".csv": 2, ".tsv": 2}.get(Path(name).suffixes[0], 1)  # the header is a line, too
    assert found["line"].tolist() == list(range(first, first + 25))
    assert found["text"].tolist() == texts
    assert found["error"].isna().all() and set(found["file"]) == {name}
    inputs = load_tokenizer(model)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = BertCNN.from_pretrained(model).eval()(**inputs).logits.softmax(dim=1).max(dim=1)
    assert found["label"].tolist() == [["bad", "good"][i] for i in expected.indices]
    np.testing.assert_allclose(found["probability"], expected.values, atol=1e-5)
    assert set(found["label"]) == {"bad", "good"}
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 3


def test_a_folder_is_read_file_by_file_and_ngrams_are_those_of_explain(model, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write(tmp_path / "in" / "b.csv", sentences(5))
    write(tmp_path / "in" / "deep" / "a.jsonl", sentences(4))
    write(tmp_path / "in" / ".hidden.txt", ["never read"])
    (tmp_path / "in" / "notes.md").write_text("never read")
    predict(tmp_path / "in", "--model", model, "--out", tmp_path / "out", "--explain")
    found = read(tmp_path / "out")
    assert found.groupby("file").size().to_dict() == {"b.csv": 5, "deep/a.jsonl": 4}
    explained = explain(BertCNN.from_pretrained(model), found["text"].tolist(), tokenizer=load_tokenizer(model))
    for row, explanation in zip(found.itertuples(), explained, strict=True):
        best, second = np.argsort(-explanation.logits)[:2].tolist()
        expected = explanation.ngrams(best, against=second)[:5]
        assert [(n["start"], n["end"]) for n in row.ngrams] == [ngram[:2] for ngram in expected]
        assert [n["ngram"] for n in row.ngrams] == [row.text[start:end] for start, end, _ in expected]
        np.testing.assert_allclose([n["weight"] for n in row.ngrams], [n[2] for n in expected], atol=1e-4)


BAD = {
    "a.jsonl": (
        b'{"text": "good"}\n\n{"text": \n{"words": "good"}\n{"text": null}\n{"text": 5}\n["good"]\n'
        b'{"text": "\xff\xfe"}\n{"text": "\\ud83d"}\n{"text": " "}\n{"text": "slow"}',
        {
            3: "not JSON",
            4: "missing",
            5: "missing",
            6: "not a string but int",
            7: "not a JSON object",
            8: "not valid UTF-8",
            9: "not valid UTF-8",
            10: "empty",
        },
        {1: "good", 11: "slow"},
    ),
    "a.csv": (
        b'text,id\ngood,1\n"two\nlines",2\nbad\n"never closed,3\nslow,4\n"closed"late,5\n\xff,6\n,7\ngood,8\n',
        {5: "1 values for 2 columns", 6: "not CSV", 8: "not CSV", 9: "not valid UTF-8", 10: "empty"},
        {2: "good", 3: "two\nlines", 7: "slow", 11: "good"},
    ),
    "a.txt": (b"\xef\xbb\xbfgood\r\n\r\n\xff\nslow", {3: "not valid UTF-8"}, {1: "good", 4: "slow"}),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("rows", [2, 100])
def test_a_row_that_cannot_be_read_is_reported_and_the_others_go_on(name, rows, model, tmp_path, capsys):
    content, errors, texts = BAD[name]
    (tmp_path / name).write_bytes(content)
    predict(tmp_path / name, "--model", model, "--out", tmp_path / "out", "--rows", rows, "--explain")
    found, said = read(tmp_path / "out"), capsys.readouterr().err
    good, bad = found[found["error"].isna()], found[found["error"].notna()]
    assert dict(zip(good["line"], good["text"], strict=True)) == texts
    assert set(good["label"]) <= {"bad", "good"} and bad["label"].isna().all()
    assert bad["line"].tolist() == list(errors)
    for line, why in errors.items():
        assert why in bad.set_index("line")["error"][line]
        assert f"{name}, line {line}: " in said
    assert f"{len(errors)} could not be read" in said


def test_texts_that_are_read_in_part_are_counted(model, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("\n".join(["good", "good " * 126, "good " * 127, "bad " * 500]) + "\n")
    for explained in ([], ["--explain"]):  # the model reads 128 tokens, [CLS] and [SEP] among them
        predict(tmp_path / "a.txt", "--model", model, "--out", tmp_path / f"out{len(explained)}", *explained)
        assert "4 rows, " in (said := capsys.readouterr().err) and ", 2 longer than the model reads" in said
    (tmp_path / "a.txt").write_text("good\n")
    predict(tmp_path / "a.txt", "--model", model, "--out", tmp_path / "short")
    assert "longer" not in capsys.readouterr().err


def test_null_in_parquet_is_a_row_that_cannot_be_read(model, tmp_path):
    parquet.write_table(pyarrow.table({"text": ["good", None, "bad"]}), tmp_path / "a.parquet")
    predict(tmp_path / "a.parquet", "--model", model, "--out", tmp_path / "out")
    assert read(tmp_path / "out")["error"].fillna("").tolist() == ["", "the text is missing", ""]


def test_killed_and_started_again_every_row_is_there_once(model, tmp_path):
    texts, out = sentences(4000), tmp_path / "out"
    write(tmp_path / "a.jsonl", texts)
    arguments = ["--model", model, "--out", str(out), "--rows", "20", "--explain"]
    command_line = [sys.executable, "-m", "companion.predict", str(tmp_path / "a.jsonl"), *arguments]
    process = subprocess.Popen(command_line, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        while len(list(out.glob("part-*.parquet"))) < 3:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    assert 3 <= len(kept) < 200
    (out / ".part-00000-000199.parquet.0.tmp").write_bytes(b"half a part")  # what a kill leaves
    predict(tmp_path / "a.jsonl", *arguments)
    assert read(out)["text"].tolist() == texts
    assert read(out)["line"].tolist() == list(range(1, 4001))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # no chunk is done twice
    assert not list(out.glob(".*.tmp"))
    predict(tmp_path / "a.jsonl", *arguments)  # nothing left to do
    assert len(read(out)) == 4000


def test_a_part_that_fails_to_be_written_is_not_there(model, tmp_path, monkeypatch):
    write(tmp_path / "a.txt", sentences(6))

    def fail(table, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(parquet, "write_table", fail)
        with pytest.raises(OSError, match="no space"):
            predict(tmp_path / "a.txt", "--model", model, "--out", tmp_path / "out")
    assert not list((tmp_path / "out").glob("part-*"))
    predict(tmp_path / "a.txt", "--model", model, "--out", tmp_path / "out")
    assert len(read(tmp_path / "out")) == 6


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_memory_does_not_grow_with_the_file(name, tmp_path):
    write(tmp_path / name, ["word " * 200] * 20_000)  # 20 MB
    source = sources.open_file(name, tmp_path / name, "text")
    tracemalloc.start()
    rows = sum(len(source.read(chunk, 100)) for chunk in sources.chunks([source], 100))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 20_000
    assert most < 2_000_000


def test_chunks_can_be_read_in_any_order(tmp_path):
    for name in ("a.csv", "b.jsonl.gz", "c.parquet", "d.txt"):
        write(tmp_path / name, [f'text "{i}", or so' for i in range(23)])
    found = sources.find_sources(str(tmp_path))
    planned = list(sources.chunks(found, 5))
    assert len(planned) == len(set(planned)) == 4 * 5
    for chunk in reversed(planned):
        rows = found[chunk.source].read(chunk, 5)
        assert [row.text for row in rows] == [f'text "{i}", or so' for i in range(23)][chunk.number * 5 :][:5]


def test_a_corpus_of_the_package_is_an_input():
    found = {source.name: source for source in sources.find_sources("matinee")}
    assert list(found) == ["test.jsonl", "train.jsonl", "validation.jsonl"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a.docx"], r"'a.docx' is not one of .parquet, .jsonl"),
        (["empty"], "The folder 'empty' holds no .parquet, .jsonl"),
        (["nobody/nothing"], "There is no dataset 'nobody/nothing'"),
        (["a.csv", "--text", "body"], "'a.csv' has no column 'body'; it has id, text"),
        (["a.parquet", "--text", "body"], "'a.parquet' has no column 'body'; it has id, text"),
        (["utf16.csv"], "'utf16.csv' has no column 'text'; it has no text in UTF-8"),
        (["damaged.parquet"], "'damaged.parquet' is no Parquet file, or damaged"),
        (["a.csv", "--model", "embedded"], "'embedded' is no BERT-CNN"),
        (["a.csv", "--int8"], "--int8 needs an export"),
        (["a.csv", "--out", "full"], "'full' is not empty, and holds no output of this command"),
        (["full", "--out", "full/out"], "'full/out' is within the input"),
        (["twice.csv"], "'twice.csv' has 2 columns 'text'; it has text, label, text"),
        (["quoted.csv"], "The first line of 'quoted.csv' is not CSV"),
        (["a.csv", "--out", "a.docx"], "The folder 'a.docx' cannot be made"),
        (["a.csv", "--model", "export", "--labels", "x", "y"], "'export' is an export: it has its own tokenizer and"),
    ],
)
def test_bad_input_gets_one_sentence_before_any_work(arguments, message, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "a.parquet"):
        write(Path(name), sentences(3))
    Path("a.docx").write_bytes(b"")
    Path("damaged.parquet").write_bytes(b"PAR1")
    Path("utf16.csv").write_text("text\ngood\n", encoding="utf-16")
    Path("twice.csv").write_text("text,label,text\ngood,1,bad\n")
    Path("quoted.csv").write_text('"text,label\ngood,1\n')
    Path("export").mkdir()
    Path("export", "model.onnx").write_bytes(b"")
    Path("empty").mkdir()
    Path("full").mkdir()
    write(Path("full", "notes.txt"), ["mine"])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        predict(arguments[0], "--model", model, "--out", "out", *arguments[1:])
    assert sorted(tmp_path.rglob("*")) == before


def test_another_graph_or_tokenizer_is_another_model(tmp_path):
    """A run that is resumed must not mix two models: every file that decides an answer counts."""
    found = set()
    for name in ("model.onnx", "model.int8.onnx", "labels.json", "tokenizer.json", "head.safetensors"):
        (tmp_path / name).write_text("one")
    for name in ("model.onnx", "model.int8.onnx", "labels.json", "tokenizer.json", "head.safetensors"):
        found.add(models.identify(str(tmp_path)))
        (tmp_path / name).write_text("another")
    assert len(found | {models.identify(str(tmp_path))}) == 6


def test_a_folder_with_the_name_of_a_file_is_passed_over(tmp_path):
    (tmp_path / "old.csv").mkdir()
    write(tmp_path / "a.txt", ["good"])
    assert [source.name for source in sources.find_sources(str(tmp_path))] == ["a.txt"]


def test_a_compressed_file_that_is_cut_short_is_named(model, tmp_path):
    whole = gzip.compress("\n".join(map(str, range(9999))).encode())
    (tmp_path / "a.txt.gz").write_bytes(whole[:-500])
    with pytest.raises(ValueError, match=r"a.txt.gz' is damaged: Compressed file ended"):
        predict(tmp_path / "a.txt.gz", "--model", model, "--out", tmp_path / "out", "--rows", 10_000)


def test_null_characters_are_no_text():
    assert sources.checked(1, "\0d\0u\0l\0l").error == "the text is not valid UTF-8"


def test_another_run_in_the_same_folder_is_refused(model, tmp_path):
    write(tmp_path / "a.txt", sentences(3))
    predict(tmp_path / "a.txt", "--model", model, "--out", tmp_path / "out")
    with pytest.raises(ValueError, match="holds a run with another explain and rows"):
        predict(tmp_path / "a.txt", "--model", model, "--out", tmp_path / "out", "--explain", "--rows", 9)
    write(tmp_path / "a.txt", sentences(4))
    with pytest.raises(ValueError, match="holds a run with another input"):
        predict(tmp_path / "a.txt", "--model", model, "--out", tmp_path / "out")


@pytest.mark.parametrize("name", ["a.txt", "a.parquet", "corpus/train.csv"])
def test_an_input_with_a_letter_changed_is_another_input(name, model, tmp_path):
    """It has as many bytes and as many rows as before."""
    (tmp_path / name).parent.mkdir(exist_ok=True)

    def run(texts):
        write(tmp_path / name, texts)
        predict(tmp_path / Path(name).parts[0], "--model", model, "--out", tmp_path / "out")

    for _ in range(2):
        run(["bad film", "no"])
    with pytest.raises(ValueError, match="holds a run with another input"):
        run(["bed film", "no"])
    assert read(tmp_path / "out")["text"].tolist() == ["bad film", "no"]


def test_a_saved_dataset_is_known_by_its_texts(tmp_path):
    def digests(name, texts):
        datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": texts})}).save_to_disk(tmp_path / name)
        return [digest(source) for source in sources.find_sources(str(tmp_path / name))]

    assert digests("a", ["bad film", None]) == digests("b", ["bad film", None]) != digests("c", ["bed film", None])


def test_two_processes_do_not_write_to_one_folder(model, tmp_path):
    write(tmp_path / "a.txt", sentences(3))
    predict(tmp_path / "a.txt", "--model", model, "--out", tmp_path / "out")
    with filelock.FileLock(tmp_path / "out" / ".lock"), pytest.raises(ValueError, match="Another process writes"):
        predict(tmp_path / "a.txt", "--model", model, "--out", tmp_path / "out")


def test_a_worker_of_a_cluster_does_what_is_left_of_its_chunks(model, tmp_path, monkeypatch):
    """As Ray Data calls it: with columns of chunks, some of which another worker had finished before it died."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.txt", sentences(27))
    job = Job("a.txt", model, "out", rows=10)
    worker = cluster.Worker(job, str(tmp_path))
    todo = list(worker.work.todo())
    assert len(todo) == 3
    worker.work(todo[1])
    before = (tmp_path / "out" / "part-00000-000001.parquet").stat().st_mtime_ns
    batch = {name: np.array([getattr(chunk, name) for chunk in todo]) for name in todo[0]._fields}
    assert worker(batch) == {"longer": [0, 0, 0], "rows": [10, 0, 7], "errors": ["", "", ""]}
    assert (tmp_path / "out" / "part-00000-000001.parquet").stat().st_mtime_ns == before
    assert len(read("out")) == 27 and not list(worker.work.todo())
