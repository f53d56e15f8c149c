"""What students do wrong in the coursework loses its points, and only those."""

import itertools

import pytest
import torch
from nbgrader.utils import is_grade, is_solution

from tests.test_coursework import answered, execute, in_order, read  # noqa: F401, in_order is used by pytest
from tools import coursework

# (assignment, task, what a student might write, tests that fail): it passes the task's other tests.
NAIVE = [
    (
        1,
        "convolve",  # true or false: the right answer must not take on their type
        "maps = []\n"
        "for weight, bias in convs:\n"
        "    text = np.pad(hidden * attention_mask[..., None], ((0, 0), (0, 5), (0, 0)))\n"
        "    width = max(hidden.shape[1], 5) - weight.shape[-1] + 1\n"
        "    found = np.stack([all_filters(one, weight, bias)[:width] for one in text])\n"
        "    inside = np.pad(attention_mask, ((0, 0), (0, 5)))[:, weight.shape[-1] - 1 :][:, :width, None].copy()\n"
        "    inside[:, 0] = 1\n"
        "    maps.append(found * inside > 0)\n"
        "return maps",
        "check_convolve hidden_convolve_full hidden_convolve_padding hidden_convolve_short",
    ),
    (1, "window_score", "return (window * kernel).sum()", "check_window_score hidden_window_score"),
    (1, "window_score", "return 1.0", "hidden_window_score"),
    (1, "window_score", "return (window * kernel + bias).sum()", "check_window_score hidden_window_score"),
    (1, "feature_map", "return np.array([1.0, 0.0, 2.0, 0.0])", "hidden_feature_map"),
    (
        1,
        "feature_map",
        "return np.array([(hidden[i : i + 3] * kernel).sum() + bias for i in range(len(hidden) - 2)])",
        "check_feature_map hidden_feature_map",
    ),
    (
        1,
        "feature_map",
        "return np.maximum([(hidden[i : i + 3] * kernel).sum() + bias for i in range(len(hidden) - 2)], 0)",
        "hidden_feature_map",
    ),
    (
        1,
        "all_filters",  # (F, D, k) taken for (F, k, D)
        "F, D, k = weight.shape\n"
        "kernels = weight.reshape(F, k, D)\n"
        "windows = np.stack([hidden[i : i + k] for i in range(len(hidden) - k + 1)])\n"
        "return np.maximum(np.einsum('wkd,fkd->wf', windows, kernels) + bias, 0)",
        "check_all_filters hidden_all_filters",
    ),
    (1, "counts", "return attention_mask[:, : attention_mask.shape[1] - k + 1]", "check_counts hidden_counts"),
    (1, "counts", "return attention_mask[:, k - 1 :]", "check_counts hidden_counts"),
    (
        1,
        "counts",  # a view
        "inside = attention_mask[:, k - 1 :]\ninside[:, 0] = 1\nreturn inside",
        "hidden_counts_unchanged",
    ),
    (
        1,
        "convolve",  # no mask at all
        "return [np.stack([all_filters(text, *conv) for text in hidden]) for conv in convs]",
        "check_convolve hidden_convolve_padding hidden_convolve_short",
    ),
    (
        1,
        "convolve",  # padding is zero, and its windows count
        "hidden = hidden * attention_mask[..., None]\n"
        "return [np.stack([all_filters(text, *conv) for text in hidden]) for conv in convs]",
        "check_convolve hidden_convolve_padding hidden_convolve_short",
    ),
    (1, "pool", "return np.concatenate([m.mean(axis=1) for m in maps], axis=1)", "check_pool hidden_pool"),
    (1, "pool", "return np.array([[3, 5, 4, 9]])", "hidden_pool"),
    (2, "leak", "return 0.5 if model is leaky and extra else 0.0", "hidden_leak_batches hidden_leak_inputs"),
    (
        2,
        "leak",  # what is appended passes for text
        "padded = {name: F.pad(inputs[name], (0, extra), value=name == 'attention_mask') for name in inputs}\n"
        "return (model(**padded).logits - model(**inputs).logits).abs().max()",
        "check_leak hidden_leak_batches hidden_leak_inputs",
    ),
    (
        2,
        "leak",  # only upwards
        "padded = {name: F.pad(inputs[name], (0, extra)) for name in ('input_ids', 'attention_mask')}\n"
        "return (model(**padded).logits - model(**inputs).logits).max()",
        "hidden_leak_batches hidden_leak_inputs",
    ),
    (
        2,
        "leak",  # leaves other inputs behind
        "padded = {name: F.pad(inputs[name], (0, extra)) for name in ('input_ids', 'attention_mask')}\n"
        "change = (model(**padded).logits - model(**inputs).logits).abs().max()\n"
        "if hasattr(model, 'asked'):\n"
        "    inputs['attention_mask'][:] = 1\n"
        "return change",
        "hidden_leak_inputs",
    ),
    (
        2,
        "convolve",  # as it was
        "return [F.relu(conv(hidden.transpose(1, 2))).transpose(1, 2) for conv in self.convs]",
        "check_convolve hidden_convolve_windows hidden_convolve_short hidden_convolve_masks",
    ),
    (
        2,
        "convolve",  # half mended
        "hidden = hidden * attention_mask[..., None]\n"
        "return [F.relu(conv(hidden.transpose(1, 2))).transpose(1, 2) for conv in self.convs]",
        "check_convolve hidden_convolve_windows hidden_convolve_short hidden_convolve_masks",
    ),
    (
        2,
        "convolve",  # no room for short texts
        "mask = attention_mask.to(hidden.dtype)\n"
        "maps = []\n"
        "for conv, k in zip(self.convs, self.config.kernel_sizes):\n"
        "    windows = F.relu(conv((hidden * mask[..., None]).transpose(1, 2))).transpose(1, 2)\n"
        "    maps.append(windows * F.pad(mask[:, k:], (1, 0), value=1)[..., None])\n"
        "return maps",
        "hidden_convolve_short",
    ),
    (2, "keras_leak", "return 0.7 if extra else 0.0", "hidden_keras_leak"),
    (
        2,
        "keras_convolve",  # as it was
        "mask = ops.cast(attention_mask, hidden.dtype)\nreturn [conv(hidden * mask[..., None]) for conv in self.convs]",
        "check_keras_convolve hidden_keras_convolve_windows hidden_keras_convolve_short",
    ),
    (
        2,
        "keras_convolve",  # right numbers, no gradient
        "sizes = self.settings['kernel_sizes']\n"
        "missing = max(0, max(sizes) - hidden.shape[1])\n"
        "hidden = np.pad(np.array(hidden), ((0, 0), (0, missing), (0, 0)))\n"
        "mask = np.pad(np.array(attention_mask), ((0, 0), (0, missing)))\n"
        "maps = [np.array(conv(hidden * mask[..., None])) for conv in self.convs]\n"
        "inside = [np.pad(mask[:, k:], ((0, 0), (1, 0)), constant_values=1) for k in sizes]\n"
        "return [ops.convert_to_tensor(m * i[..., None]) for m, i in zip(maps, inside)]",
        "hidden_keras_convolve_windows",
    ),
    (3, "parameters_of", "return dict(model.named_parameters())", "hidden_parameters"),
    (3, "parameters_of", "return {name: p.detach() for name, p in model.named_parameters()}", "hidden_parameters"),
    (
        3,
        "embed",  # the encoder's own parameters
        "return encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state",
        "hidden_embed",
    ),
    (
        3,
        "convolve",  # "convs.10" sorted before "convs.2"; no zeros appended
        "names = sorted(name for name in params if name.startswith('convs.') and name.endswith('.weight'))\n"
        "mask = attention_mask.to(hidden.dtype)\n"
        "maps = []\n"
        "for name in names:\n"
        "    weight, bias = params[name], params[name.replace('weight', 'bias')]\n"
        "    windows = F.relu(F.conv1d((hidden * mask[..., None]).transpose(1, 2), weight, bias)).transpose(1, 2)\n"
        "    maps.append(windows * F.pad(mask[:, weight.shape[-1] :], (1, 0), value=1)[..., None])\n"
        "return maps",
        "hidden_convolve hidden_convolve_short",
    ),
    (3, "pool", "return torch.cat([windows.mean(dim=1) for windows in maps], dim=1)", "check_pool"),
    (3, "pool", "return torch.tensor([[3.0, 5.0, 4.0, 9.0]])", "check_pool"),
    (
        3,
        "classify",  # no hidden layer; dropout that is never off
        "return F.linear(F.dropout(features, dropout or 0.5), params['classifier.weight'], params['classifier.bias'])",
        "check_classify hidden_classify_layer hidden_classify_dropout",
    ),
    (
        3,
        "classify",  # no dropout
        "if 'hidden_layer.weight' in params:\n"
        "    features = F.relu(F.linear(features, params['hidden_layer.weight'], params['hidden_layer.bias']))\n"
        "return F.linear(features, params['classifier.weight'], params['classifier.bias'])",
        "hidden_classify_dropout",
    ),
    (3, "bert_cnn", "return model(input_ids, attention_mask).logits", "check_bert_cnn"),
    (
        3,
        "per_example_gradients",  # the batch's, for each
        "loss = lambda params: F.cross_entropy(head(params, hidden, attention_mask), labels)\n"
        "return {n: g.expand(len(labels), *g.shape) for n, g in grad(loss)(params).items()}",
        "hidden_gradients",
    ),
    (
        4,
        "slices_of",  # by the index
        "found = {n: np.isin(range(len(rows)), rows.index[rows.phenomenon == n]) for n in set(rows.phenomenon)}\n"
        "short = (rows.tokens <= rows.tokens.median()).to_numpy()\n"
        "return found | {'short': short, 'long': ~short}",
        "hidden_slices",
    ),
    (
        4,
        "predict",
        "return np.stack([experiment.logits(head, 'frozen', 0)[0].argmax(1)] * len(seeds))",
        "check_predict hidden_predict",
    ),
    (4, "on_slice", "return compare(labels, ours, theirs)", "check_on_slice hidden_on_slice"),
    (
        4,
        "on_slice",
        "return compare(labels[inside], theirs[:, inside], ours[:, inside])",
        "check_on_slice hidden_on_slice",
    ),
    (
        4,
        "on_slice",  # one seed only
        "return compare(labels[inside], ours[:1, inside], theirs[:1, inside])",
        "hidden_on_slice",
    ),
    (
        4,
        "table_of",  # the slices sorted, the whole test set in each
        "rows = {n: vars(compare(labels, ours, theirs)) | {'examples': slices[n].sum()} for n in sorted(slices)}\n"
        "return pd.DataFrame(rows).T",
        "check_table hidden_table",
    ),
    (
        5,
        "align",  # every piece of a word
        "return np.array([-100 if i is None else names.index(tags[i]) for i in word_ids])",
        "check_align hidden_align",
    ),
    (5, "align", "return np.array([-100, 1, -100, 2, 0, -100, -100, -100])", "hidden_align"),
    (
        5,
        "align",  # as many labels as there are words
        "return np.array([names.index(tag) for tag in tags])",
        "check_align hidden_align",
    ),
    (
        5,
        "centre",  # windows that start at the token
        "channels = F.pad((hidden * attention_mask[..., None]).transpose(1, 2), (0, weight.shape[-1] - 1))\n"
        "return F.relu(F.conv1d(channels, weight, bias)).transpose(1, 2) * attention_mask[..., None]",
        "check_centre hidden_centre hidden_centre_gradient",
    ),
    (
        5,
        "centre",  # padding reaches the text's last windows
        "maps = F.relu(F.conv1d(hidden.transpose(1, 2), weight, bias, padding='same')).transpose(1, 2)\n"
        "return maps * attention_mask[..., None]",
        "check_centre hidden_centre hidden_centre_gradient",
    ),
    (
        5,
        "centre",  # the maps at padding are the bias, or what is left of the text
        "channels = (hidden * attention_mask[..., None]).transpose(1, 2)\n"
        "return F.relu(F.conv1d(channels, weight, bias, padding='same')).transpose(1, 2)",
        "check_centre hidden_centre hidden_centre_gradient",
    ),
    (
        5,
        "centre",  # no ReLU
        "channels = (hidden * attention_mask[..., None]).transpose(1, 2)\n"
        "return F.conv1d(channels, weight, bias, padding='same').transpose(1, 2) * attention_mask[..., None]",
        "hidden_centre hidden_centre_gradient",
    ),
    (
        5,
        "centre",  # right numbers, no gradient
        "mask = attention_mask[..., None].to(hidden.dtype)\n"
        "maps = F.conv1d((hidden * mask).transpose(1, 2), weight.detach(), bias, padding='same')\n"
        "return F.relu(maps).transpose(1, 2) * mask",
        "hidden_centre_gradient",
    ),
    (
        5,
        "token_logits",  # the sentence classifier's
        "return F.linear(torch.cat([windows.amax(dim=1) for windows in maps], dim=1), weight, bias)",
        "check_token_logits hidden_token_logits",
    ),
    (5, "token_logits", "return torch.tensor([[[1.0, 10.0], [0.0, 13.0], [2.0, 11.0]]])", "hidden_token_logits"),
    (
        5,
        "token_loss",  # the unlabelled tokens count as the first class
        "return F.cross_entropy(logits.flatten(0, 1), labels.clamp(min=0).flatten())",
        "hidden_token_loss",
    ),
    (
        5,
        "token_loss",  # divided by the number of all tokens
        "return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction='sum') / labels.numel()",
        "check_token_loss hidden_token_loss",
    ),
    (
        5,
        "token_loss",  # right number, no gradient
        "return F.cross_entropy(logits.detach().flatten(0, 1), labels.flatten())",
        "hidden_token_loss",
    ),
    (
        5,
        "spans",  # an I- that has nothing to continue is lost
        "found = []\n"
        "for i, tag in enumerate(tags):\n"
        "    if tag.startswith('B-'):\n"
        "        found.append((tag[2:], i, i + 1))\n"
        "    elif found and found[-1][2] == i and tag == 'I-' + found[-1][0]:\n"
        "        found[-1] = (*found[-1][:2], i + 1)\n"
        "return found",
        "hidden_spans_repair",
    ),
    (
        5,
        "spans",  # the type ends at the next hyphen
        "found = []\n"
        "for i, tag in enumerate(tags):\n"
        "    kind = tag.split('-')[1] if tag != 'O' else ''\n"
        "    if tag.startswith('I-') and found and found[-1][2] == i and found[-1][0] == kind:\n"
        "        found[-1] = (*found[-1][:2], i + 1)\n"
        "    elif kind:\n"
        "        found.append((kind, i, i + 1))\n"
        "return found",
        "hidden_spans",
    ),
    (
        5,
        "spans",  # names that touch each other become one
        "found = []\n"
        "for i, tag in enumerate(tags):\n"
        "    if tag != 'O' and found and found[-1][2] == i and found[-1][0] == tag[2:]:\n"
        "        found[-1] = (*found[-1][:2], i + 1)\n"
        "    elif tag != 'O':\n"
        "        found.append((tag[2:], i, i + 1))\n"
        "return found",
        "check_spans hidden_spans hidden_spans_repair",
    ),
]


@pytest.fixture(scope="module")
def given():
    """An assignment's namespace in which its given cells and its solutions have been run; made once, then copied."""
    kept = {}

    def namespace(number, cells):
        if number not in kept:
            kept[number] = {}
            ready = [cell for cell in cells if cell.id not in ("payoff", "study") and not is_grade(cell)]
            assert execute(ready, kept[number]) == {}
        torch.set_grad_enabled(number != 2)  # as its first cell has it
        return dict(kept[number])

    return namespace


@pytest.mark.parametrize("number, task, answer, failed", NAIVE, ids=[f"{n} {task}" for n, task, *_ in NAIVE])
def test_a_naive_answer_fails(given, number, task, answer, failed):
    cells = read(coursework.sources()[number - 1]).cells
    namespace = given(number, cells)
    start = [cell.id for cell in cells].index(task)
    tests = list(itertools.takewhile(is_grade, cells[start + 1 :]))
    cells[start].source = answered(cells[start].source, answer)
    errors = execute([cells[start], *tests], namespace)
    assert set(errors) == set(failed.split()), errors


def test_every_task_has_a_naive_answer_that_fails():
    for number, path in enumerate(coursework.sources(), 1):
        tasks = {cell.id for cell in read(path).cells if is_solution(cell) and not is_grade(cell)}
        assert tasks == {task for assignment, task, *_ in NAIVE if assignment == number}


def test_a_forgotten_return_is_named(given):
    """The check after each task raises its own sentence, and no TypeError."""
    for number, path in enumerate(coursework.sources(), 1):
        cells = read(path).cells
        namespace = given(number, cells)
        for cell, check in itertools.pairwise(cells):
            if is_solution(cell) and not is_grade(cell):
                cell.source = answered(cell.source, "pass")
                error = execute([cell, check], dict(namespace)).get(check.id)
                assert isinstance(error, AssertionError), (check.id, error)
                assert "return" in str(error), (check.id, error)


KERAS = {  # the solutions of assignment 5 in the other framework
    "centre": "mask = ops.cast(attention_mask, hidden.dtype)[..., None]\n"
    "maps = ops.conv(hidden * mask, weight, padding='same') + bias\n"
    "return ops.relu(maps) * mask",
    "token_logits": "return ops.matmul(ops.concatenate(maps, axis=2), weight) + bias",
    "token_loss": "kept = ops.cast(labels >= 0, logits.dtype)\n"
    "losses = ops.sparse_categorical_crossentropy(ops.maximum(labels, 0), logits, from_logits=True)\n"
    "return ops.sum(losses * kept) / ops.sum(kept)",
}


def test_the_tagger_can_be_written_in_keras(capfd):
    cells = read(coursework.sources()[4]).cells
    for cell in cells:
        if cell.id in KERAS:
            cell.source = answered(cell.source, KERAS[cell.id])
            cell.source = cell.source.replace('FRAMEWORK = "pytorch"', 'FRAMEWORK = "keras"')
    assert execute(cells, {}) == {}
    assert capfd.readouterr().err == ""


def test_a_gradient_has_to_reach_the_filters_in_keras_too(given):
    cells = {cell.id: cell for cell in read(coursework.sources()[4]).cells}
    through = "ops.convert_to_tensor(np.array(ops.relu(maps) * mask))"
    answer = KERAS["centre"].replace("ops.relu(maps) * mask", through)
    task = cells["centre"]
    task.source = answered(task.source, answer).replace('FRAMEWORK = "pytorch"', 'FRAMEWORK = "keras"')
    tests = [cells[name] for name in ("check_centre", "hidden_centre", "hidden_centre_gradient")]
    assert set(execute([task, *tests], given(5, list(cells.values())))) == {"hidden_centre_gradient"}
