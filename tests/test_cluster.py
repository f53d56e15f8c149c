"""`--ray`: two nodes of `ray.cluster_utils` give what one process gives, though one of them is lost."""

import contextlib
import json
import os
import sys
import threading
import time

import pandas as pd
import psutil
import pytest
import torch
from conftest import WORDS

from companion.encoders import load_tokenizer
from companion.predict import __main__ as command
from companion.pytorch_class import BertCNN
from companion.study import __main__ as study
from companion.study.results import CELL

ray = pytest.importorskip("ray", reason="pip install 'bert-cnn-companion[cluster]'")
ROWS, CHUNK = 3000, 10


@pytest.fixture
def cluster():
    """A head that computes nothing, and two nodes of one CPU each."""
    if sys.platform != "linux":
        pytest.skip("Ray has clusters of several nodes on Linux only")
    if "RAY_CLUSTER" not in os.environ:
        pytest.skip("three nodes cannot run beside other tests on two CPU cores: run make cluster")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def workers(node, name: str) -> list:
    """The processes of a node whose title holds a name."""
    found = []
    for process in psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [process] if name in " ".join(process.cmdline()) else []
    return found


def lose_a_node(cluster, name: str, ready, lost: list) -> threading.Thread:
    """Once `ready()`, remove a node on which a process of that name works; note its processes in `lost`."""

    def watch():
        while not lost:
            time.sleep(0.01)
            for node in cluster.worker_nodes if ready() else []:
                if found := workers(node, name):
                    lost.extend(found)
                    cluster.remove_node(node, allow_graceful=False)
                    return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def saved(random_encoder, tmp_path):
    torch.manual_seed(3)
    model = BertCNN.from_encoder(random_encoder, num_filters=5)
    model.classifier.weight.data *= 100
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(random_encoder).save_pretrained(tmp_path / "model")
    return tmp_path


def test_predictions_are_those_of_one_process_though_a_node_is_lost(cluster, saved, monkeypatch):
    monkeypatch.chdir(saved)  # names relative to it have to work on the nodes, too
    texts = [" ".join(WORDS[(i + k) % len(WORDS)] for k in range(1 + i % 7)) for i in range(ROWS)]
    (saved / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    arguments = ["texts.txt", "--model", "model", "--rows", str(CHUNK)]
    command.main([*arguments, "--out", "one"])

    written, lost = (lambda: len(list((saved / "two").glob("part-*")))), []
    thread = lose_a_node(cluster, "MapWorker", lambda: written() >= 3, lost)
    command.main([*arguments, "--out", "two", "--ray", cluster.address])
    thread.join(timeout=60)
    assert lost and not any(process.is_running() for process in lost)

    one, two = (pd.read_parquet(name).sort_values("line", ignore_index=True) for name in ("one", "two"))
    assert len(two) == ROWS and written() == ROWS // CHUNK
    pd.testing.assert_frame_equal(one.drop(columns="probability"), two.drop(columns="probability"))
    assert two["probability"].tolist() == pytest.approx(one["probability"].tolist(), abs=1e-6)


def test_the_study_has_the_numbers_of_one_process_though_a_node_is_lost(cluster, random_encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "films").mkdir()
    rows = [{"text": f"{word} film , {other}", "label": word} for word in ("good", "bad") for other in ("dull", "slow")]
    for split, times in (("train", 15), ("test", 5)):
        lines = "\n".join(map(json.dumps, rows * times))
        (tmp_path / "films" / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    arguments = ["films", "--encoder", random_encoder, "--heads", "tfidf", "mlp", "--regimes", "frozen", "--seeds", "8"]
    study.main([*arguments, "--results", "one"])

    written, lost = (lambda: (tmp_path / "two" / "heads.csv").exists()), []
    thread = lose_a_node(cluster, "ray::run", written, lost)
    study.main([*arguments, "--results", "two", "--ray", cluster.address])
    thread.join(timeout=60)
    assert lost and not any(process.is_running() for process in lost)

    one, two = (pd.read_csv(f"{name}/heads.csv").sort_values(CELL, ignore_index=True) for name in ("one", "two"))
    differ = ["seconds", "hardware"]
    pd.testing.assert_frame_equal(one.drop(columns=differ), two.drop(columns=differ))
    assert len(two) == 9 and not two.duplicated(CELL).any()
    one, two = (pd.read_parquet(f"{name}/predictions.parquet") for name in ("one", "two"))
    order = [*CELL, "example"]
    pd.testing.assert_frame_equal(
        *(rows.sort_values(order, ignore_index=True).astype({c: str for c in CELL}) for rows in (one, two))
    )


def test_what_is_missing_is_said_in_one_sentence(monkeypatch):
    from companion.predict import cluster as predict_cluster

    monkeypatch.setattr(predict_cluster, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^--ray needs Ray: pip install 'bert-cnn-companion\[cluster\]'\.$"):
        predict_cluster.connect("local")
