"""Which n-grams decided: max over time takes each filter's value from exactly one window of the text."""

import torch


@torch.no_grad()
def deciding_ngrams(model, tokenizer, text: str, label: int = 1, top: int = 4):
    """The windows that moved a PyTorch `BertCNN`'s logit for `label` most, against the mean of all classes.

    Returns (start, end, weight): characters of the text, and the sum over the filters whose maximum lies in that
    window of feature x classifier weight. For a model without `hidden_units`.
    """
    inputs = tokenizer(text, truncation=True, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")[0].tolist()  # (T, 2): each token's characters
    inputs = inputs.to(model.device)
    weight = model.classifier.weight[label] - model.classifier.weight.mean(dim=0)  # (K*F,)
    sums, first = {}, 0
    for windows in model.convolve(model.embed(**inputs), inputs["attention_mask"]):  # (1, W_k, F)
        values, places = windows[0].max(dim=0)  # (F,), (F,)
        k = len(offsets) + 1 - windows.shape[1]
        for value, place, w in zip(values, places, weight[first : first + len(values)], strict=True):
            inside = [(a, b) for a, b in offsets[place : place + max(k, 1)] if b > a]  # without [CLS], [SEP]
            if value > 0 and inside:
                span = (inside[0][0], inside[-1][1])
                sums[span] = sums.get(span, 0.0) + (value * w).item()
        first += len(values)
    strongest = sorted(sums.items(), key=lambda item: -abs(item[1]))[:top]
    return [(start, end, round(total, 3)) for (start, end), total in strongest]
