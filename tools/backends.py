"""The seconds of a training step of the Keras class on one backend, as JSON; `tools.benchmark` starts it for each.

    KERAS_BACKEND=jax python -m tools.backends ENCODER BATCH LENGTH ROUNDS

On JAX also without `jit_compile`, that is, operation by operation.
"""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from statistics import median

BACKENDS = ("tensorflow", "jax", "torch")


def measure(encoder: str, *sizes: int) -> dict[str, float]:
    """{"jax": seconds, "jax, no jit_compile": seconds, ...} for those backends that are installed."""
    took = {}
    for backend in filter(find_spec, BACKENDS):
        command = [sys.executable, "-m", "tools.backends", encoder, *map(str, sizes)]
        environment = os.environ | {"KERAS_BACKEND": backend}
        took |= json.loads(subprocess.check_output(command, env=environment, text=True).splitlines()[-1])
    return took


def main(encoder: str, batch: str, length: str, rounds: str) -> None:
    import numpy as np

    from companion.keras_class import BertCNN, loss_for
    from companion.quiet import keras

    backend, took = keras.backend.backend(), {}
    rng = np.random.default_rng(0)
    for compiled in ("auto", False) if backend == "jax" else ("auto",):
        model = BertCNN.from_encoder(encoder)
        shape = (int(batch), int(length))
        ids = rng.integers(5, model.encoder.vocabulary_size, shape).astype("int32")
        inputs, labels = {"input_ids": ids, "attention_mask": np.ones_like(ids)}, rng.integers(0, 2, shape[0])
        model.compile(keras.optimizers.AdamW(1e-5), loss_for(), jit_compile=compiled)
        model.train_on_batch(inputs, labels)  # the first step compiles
        times = []
        for _ in range(int(rounds)):
            start = time.perf_counter()
            model.train_on_batch(inputs, labels)  # returns the loss as a number: the step has ended
            times.append(time.perf_counter() - start)
        took[backend if compiled else f"{backend}, no jit_compile"] = median(times)
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:])
