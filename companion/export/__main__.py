"""Write a trained BERT-CNN as ONNX: in single precision and in 8 bits, with its tokenizer and the names of its classes.

    python -m companion.export classifier exported
    python -m companion.export model.keras exported --tokenizer embedded --labels negative positive

A Keras model's weights are carried into the PyTorch class first, so that both frameworks give the same graph; Keras's
own exporter would need another library, and gives the logits only.
"""

import argparse
from pathlib import Path

from companion.export.graph import check_extra, write
from companion.export.saved import load_saved


def main(argv: list[str] | None = None) -> None:
    described: dict = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="python -m companion.export", **described)
    parser.add_argument("model", help="a folder that the PyTorch class has saved, 'classifier', or a .keras file")
    parser.add_argument("out", type=Path, help="the folder to write, which must not exist")
    parser.add_argument("--tokenizer", help="an encoder's name, for a model that was saved without its tokenizer")
    parser.add_argument("--labels", nargs="+", help="the names of the classes, in order (default: the model's own)")
    args = parser.parse_args(argv)
    check_extra()
    if args.out.exists():
        raise ValueError(f"'{args.out}' exists already; give a new folder, or remove it.")
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer, labels = load_saved(args.model, args.tokenizer, args.labels)
    write(model, tokenizer, labels, args.out)
    for path in sorted(args.out.iterdir()):
        print(f"{path.stat().st_size / 1e6:6.1f} MB  {path.name}")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        raise SystemExit(str(error)) from None
