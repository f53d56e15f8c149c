"""Does the CNN help? Datasets x heads x {frozen, fine-tuned} x seeds, each cell trained once and kept.

RESULTS becomes two files: heads.csv, a row for each cell, and predictions.parquet, a row for each example;
with --challenge a third, log_odds.parquet: what two-class models say of validation, test and the challenge set.
With --tune: tuning.csv, a row for each setting of each head, tried on validation; later runs take the best ones.
Started again, the command goes on with the cells that are missing; started twice, the two share the work.
With --ray a process for each GPU or CPU of a cluster shares it; all must see the files under the same names.
"""

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import filelock
import transformers

from companion.encoders import DEFAULT_ENCODER, find_encoder
from companion.study import recipes
from companion.study.experiment import Experiment, encoder_identity
from companion.study.results import CELL
from companion.study.specs import HEADS, MAIN, REGIMES
from companion.study.splits import short_name, stratified_sample
from companion.study.store import Store


class Job(NamedTuple):
    """One training: what it is called, is it done, and how it is done (returns a row with `accuracy`)."""

    name: str
    done: Callable[[], bool]
    work: Callable[[], dict]


def positive_int(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few; it takes 1 or more")
    return number


def parse(argv: list[str] | None):
    parser = argparse.ArgumentParser(prog="python -m companion.study", description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", help="matinee, folders or Hub ids; NAME@500 trains on 500 examples")
    parser.add_argument("--heads", nargs="+", choices=list(HEADS), default=MAIN)
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=REGIMES)
    parser.add_argument("--sizes", type=positive_int, nargs="*", default=[], help="also NAME~50, drawn by seed")
    parser.add_argument("--seeds", type=positive_int, nargs="+", default=[3], help="how many, for each of the regimes")
    parser.add_argument("--tune", action="store_true", help="try each head's settings on validation, and stop")
    parser.add_argument("--challenge", action="store_true", help="score the challenge set, too (two classes only)")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="embedded, a folder or a Hub id")
    parser.add_argument("--bf16", action="store_true", help="half precision: on some hardware twice as fast, or more")
    parser.add_argument("--replace", action="store_true", help="train cells of other recipes again")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder to write to (default: results)")
    parser.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster, or 'local' for one on this machine")
    args = parser.parse_args(argv)
    if len(args.seeds) not in (1, len(args.regimes)):
        parser.error(f"--seeds takes one number, or one for each of the {len(args.regimes)} regimes")
    return args


def make_experiments(args) -> dict[str, tuple[Experiment, int | None]]:
    """{name in the results: (experiment, training examples, or None for all)}.

    Raises ValueError for sizes that cannot be.
    """
    experiments = {}
    for name in args.datasets:
        experiment, short = Experiment(name, args.encoder, args.bf16, args.challenge), short_name(name)
        if not max(args.sizes, default=0) < (most := len(experiment.texts["train"])):
            raise ValueError(f"'{name}' has {most} training examples; sizes have to be smaller, not {args.sizes}.")
        added = {short: (experiment, None)}
        for size in args.sizes:
            for seed in range(max(args.seeds)):  # if it cannot be done, then now
                drawn = stratified_sample(experiment.texts["train"], size, seed)[0]
                if len(set(experiment.texts["train"].select(drawn)["label"])) < 2:
                    raise ValueError(f"{size} examples of '{name}' can be of one class only; give a larger size.")
            added[f"{short}~{size}"] = (experiment, size)  # not "@": that draws the same examples for every seed
        if twice := sorted(set(experiments) & set(added)):
            raise ValueError(f"Two of the datasets would both be {twice} in the results; give them one at a time.")
        experiments |= added
    return experiments


def classifiers(args):
    """(head, regime) for all that was asked for."""
    for head in args.heads:
        for regime in HEADS[head].regimes if not HEADS[head].bert else args.regimes:
            yield head, regime


def tuning_jobs(args, store: Store, experiments: dict, encoder: str) -> list[Job]:
    """Every setting of every classifier on every dataset; the first setting of all comes first."""
    jobs = []
    for dataset, (experiment, size) in experiments.items():
        for head, regime in classifiers(args):
            key = dict(zip(recipes.TUNING, (dataset, head, regime, encoder), strict=True))
            for number, recipe in enumerate(
                recipes.settings(head, regime, experiment.precision) if size is None else ()
            ):

                def work(experiment=experiment, key=key, recipe=recipe):
                    started, seed, splits = time.time(), recipes.TUNING_SEED, ("validation",)
                    shorter = recipes.shorter(recipe, key["regime"])
                    found, _ = experiment.scores(key["head"], key["regime"], seed, None, shorter, splits)
                    labels, seconds = experiment.splits["validation"]["label"][:], round(time.time() - started, 1)
                    return store.add_tuning(key, recipe, found["validation"], labels, seconds=seconds)

                def done(key=key, recipe=recipe):
                    return store.has_tuning(key, recipe)

                jobs.append((number, Job(f"{dataset} {head} {regime} setting {number}", done, work)))
    return [job for _, job in sorted(jobs, key=lambda pair: pair[0])]


def jobs_of_cells(args, store: Store, experiments: dict, encoder: str) -> list[Job]:
    """Every cell, seed by seed and within a seed head by head, so that a run cut short is still a comparison."""
    tuning, counts = recipes.read_tuning(store.tuning), dict(zip(args.regimes, args.seeds * 2, strict=False))
    plan, jobs = [], []
    for head, regime in classifiers(args):
        for dataset, (experiment, size) in experiments.items():
            recipe = recipes.chosen(tuning, dataset, head, regime, encoder, experiment.precision)
            once = not (HEADS[head].random(regime) or size)
            for seed in range(1 if once else counts.get(regime, max(args.seeds))):
                plan.append((dict(zip(CELL, (dataset, head, regime, seed, encoder), strict=True)), recipe))
    if not args.replace:
        store.check_recipes(plan)
    for cell, recipe in sorted(plan, key=lambda pair: pair[0]["seed"]):

        def work(cell=cell, recipe=recipe):
            started, (experiment, size) = time.time(), experiments[cell["dataset"]]
            logits, parameters = experiment.scores(cell["head"], cell["regime"], cell["seed"], size, recipe)
            facts = {"seconds": round(time.time() - started, 1), "parameters": parameters}
            return store.add(cell, recipe, logits, experiment.splits, **facts)

        def done(cell=cell, recipe=recipe):
            return store.has(cell, recipe, args.challenge)

        jobs.append(Job(" ".join(str(cell[part]) for part in CELL[:4]), done, work))
    return jobs


def share(jobs: list[Job], folder: Path, encoder: str) -> None:
    """Do what is not done; processes that run the same jobs share them by a lock for each."""
    todo, started, elsewhere = [job for job in jobs if not job.done()], time.time(), 0
    for number, job in enumerate(todo):
        lock = hashlib.sha256(f"{job.name} {encoder}".encode()).hexdigest()[:16]
        try:
            with filelock.FileLock(folder / f".{lock}.lock", timeout=0):
                if job.done():
                    continue
                accuracy = job.work()["accuracy"]
        except filelock.Timeout:
            elsewhere += 1
            continue
        left = (time.time() - started) / (number + 1) * (len(todo) - number - 1) / 60
        print(f"{number + 1:4d}/{len(todo)}  {job.name:50s} {accuracy:.1%}   {left:.0f} minutes left", flush=True)
    if elsewhere:
        print(f"{elsewhere} of them are with another process; if that one is stopped, start this one again.")


def plan(args) -> tuple[list[Job], Store, str]:
    """(all that was asked for, done or not; where it is stored; the encoder's name in the results)."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    encoder = encoder_identity(args.encoder)
    layers = transformers.AutoConfig.from_pretrained(find_encoder(args.encoder)).num_hidden_layers
    for head in args.heads:
        if HEADS[head].layers > layers:
            raise ValueError(f"{head} reads four layers, and '{args.encoder}' has {layers}: name other --heads.")
    store = Store(args.results, "bf16" if args.bf16 else "fp32")
    experiments = make_experiments(args)
    for dataset, (experiment, _) in experiments.items():
        store.check_texts(dataset.split("~")[0], experiment.texts)
    return (tuning_jobs if args.tune else jobs_of_cells)(args, store, experiments, encoder), store, encoder


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    jobs, store, encoder = plan(args)
    if args.ray:
        from companion.study.ray import spread

        spread(args, args.ray)
    else:
        share(jobs, args.results, encoder)
    rows = recipes.read_tuning(store.tuning) if args.tune else store.read()
    rows = rows[rows["encoder"] == encoder]
    shown = rows.pivot_table("accuracy", ["head", "regime"], "dataset", aggfunc="max" if args.tune else "mean")
    print(shown.mul(100).round(1).to_string())


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        raise SystemExit(str(error)) from None
