"""The same job on a Ray cluster: Ray Data hands out chunks, each of which one worker reads, classifies and writes.

Parts are written whole or not at all, and a part's name is its chunk's. So when a worker or a machine dies, Ray gives
its chunks to another, and every row is still there once.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from companion.predict.sources import Chunk
from companion.predict.work import Done, Job, Work

BLOCKS = 1000  # at most; chunks of one block go to one worker


class Worker:
    """What each process of the cluster holds: the job's sources and its model."""

    def __init__(self, job: Job, folder: str):
        import transformers

        os.chdir(folder)  # where the command was started: names of files may be relative to it
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self.work = Work(job)

    def __call__(self, batch: dict) -> dict:
        """A batch of chunks, column by column -> how many rows each had, and what was wrong with them."""
        chunks = [Chunk(*map(int, values)) for values in zip(*(batch[name] for name in Chunk._fields), strict=True)]
        # those that a worker finished before it died are not done again
        done = [Done(0, []) if self.work.parts.done(chunk) else self.work(chunk) for chunk in chunks]
        counts = {"rows": [one.rows for one in done], "longer": [one.longer for one in done]}
        return counts | {"errors": ["\n".join(one.errors) for one in done]}


def connect(address: str):
    """Connect to a cluster, "local" for a new one on this machine, and return the module ray.

    Raises ValueError, with one sentence, without Ray or a cluster of that address.
    """
    if find_spec("ray") is None:
        raise ValueError("--ray needs Ray: pip install 'bert-cnn-companion[cluster]'.")
    import ray

    if not ray.is_initialized():
        try:
            ray.init(None if address == "local" else address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"There is no Ray cluster at '{address}' ({type(error).__name__}).") from None
    return ray


def processes(ray) -> tuple[dict, int]:
    """(resources of one process, number of processes): one process per GPU or, without GPUs, per CPU."""
    gpus, cpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
    return ({"num_gpus": 1} if gpus else {"num_cpus": 1}), max(gpus or cpus, 1)


def spread(job: Job, chunks: Iterable[Chunk], address: str) -> Iterator[Done]:
    """Process the chunks on the cluster, with a worker per GPU or CPU."""
    ray = connect(address)
    if not (todo := [chunk._asdict() for chunk in chunks]):
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    each, count = processes(ray)
    dataset = ray.data.from_items(todo, override_num_blocks=min(len(todo), BLOCKS))
    workers = ray.data.ActorPoolStrategy(min_size=1, max_size=count)
    done = dataset.map_batches(Worker, fn_constructor_args=[job, os.getcwd()], compute=workers, batch_size=1, **each)
    for row in done.iter_rows():
        yield Done(row["rows"], row["errors"].splitlines(), row["longer"])
