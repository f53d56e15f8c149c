"""What the CNN head costs next to the encoder, and how near the forward pass comes to the machine's own speed.

At bert-base size, inputs (2, 512), random weights, PyTorch, in use (no gradients). Ratios, measured side by side:
rounds alternate between what is compared, and the median round counts.
"""

import time
from statistics import median

import torch
from transformers import BertConfig

from companion.config import BertCNNConfig
from companion.pytorch_class import BertCNN

BATCH, LENGTH, ROUNDS = 2, 512, 7
device = "cuda" if torch.cuda.is_available() else "cpu"


def seconds(work) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    config = BertConfig(vocab_size=30522)
    model = BertCNN(BertCNNConfig(encoder_config=config)).eval().to(device)
    input_ids = torch.randint(5, config.vocab_size, (BATCH, LENGTH), device=device)
    mask = torch.ones_like(input_ids)
    hidden = model.embed(input_ids, mask)

    # The encoder's own shapes, as bare matrix products: four square ones and the two of the feed-forward part.
    rows, d = torch.randn(BATCH * LENGTH, config.hidden_size, device=device), config.hidden_size
    square, wide = torch.randn(d, d, device=device), torch.randn(d, 4 * d, device=device)
    wide_rows = torch.randn(BATCH * LENGTH, 4 * d, device=device)

    def products():
        for _ in range(config.num_hidden_layers):
            for _ in range(4):
                rows @ square
            rows @ wide
            wide_rows @ wide.T

    def head():
        return model.classify(model.pool(model.convolve(hidden, mask)))

    work = {
        "encoder": lambda: model.embed(input_ids, mask),
        "head": head,
        "whole": lambda: model(input_ids, mask),
        "products": products,
    }
    for run in work.values():
        run()  # warm up
    times = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, run in work.items():
            times[name].append(seconds(run))
    took = {name: median(rounds) for name, rounds in times.items()}

    per_layer = 2 * BATCH * LENGTH * d * (4 * d + 8 * d)  # multiply-adds count twice
    attention = 2 * 2 * BATCH * LENGTH * LENGTH * d
    convolutions = sum(2 * BATCH * (LENGTH - k + 1) * k * d * 100 for k in (3, 4, 5))
    forward = config.num_hidden_layers * (per_layer + attention) + convolutions
    machine = config.num_hidden_layers * per_layer / took["products"]
    print(f"device: {device}, {torch.get_num_threads()} threads, batch ({BATCH}, {LENGTH}), median of {ROUNDS} rounds")
    print(f"CNN head / encoder time:            {took['head'] / took['encoder']:.2%}")
    print(f"forward pass / matrix-multiply rate: {forward / took['whole'] / machine:.0%}")
    print(f"({forward / took['whole'] / 1e9:.0f} of {machine / 1e9:.0f} GFLOP/s)")


if __name__ == "__main__":
    main()
