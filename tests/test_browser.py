"""The model in plain JavaScript, in a browser with no network: the tokenizer's tokens, PyTorch's numbers, the box."""

import copy
import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import assert_same
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from companion.attribution import explain
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN
from tests.browser import CHROMIUM, open_browser
from tools import box
from tools import browser as tool

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; apt-get install chromium")
BOOK = box.FORM.parent
ROUNDED, UNROUNDED = 1e-3, 2e-2  # how far logits may be from those of the same weights, and of the unrounded ones
WEIGHTS = "bert_cnn_weights.js"
REVIEW = "Not a dull minute, although the ending is a mess."
TEXTS = [
    REVIEW,
    "",
    " \t\n ",
    "dull",
    "A",
    "no.",
    "a warm and funny film .",
    "NOT ONE MINUTE OF IT IS DULL!",
    "unbelievably, incomprehensibly overwrought melodramatics",
    "x" * 100,
    "x" * 101,
    "é" * 100,
    "e\u0301" * 101,  # 101 letters once the accents are gone
    "good " * 400,
    "a warm, funny and quietly moving film. " * 40,
    "word " * 252 + "one two",  # exactly as many tokens as there is room for, then one more, then half of a word
    "word " * 253 + "one two",
    "word " * 253 + "unbelievably",
    "Crème brûlée, déjà vu, naïve façade, Ångström, Straße, ŁÓDŹ",
    "ÉTÉ e\u0301te\u0301 I\u0307stanbul İstanbul ΣΊΣΥΦΟΣ",
    "Ｆｕｌｌｗｉｄｔｈ ﬁne ﬂuff ① ½ ²",
    "这部电影很好看。",
    "映画はとても面白い、と思う",
    "이 영화는 정말 재미있다",
    "film电影film 豈 𠀀𠀁",
    "Фильм отличный, не пропустите Ё й",
    "فيلم رائع جدا مُمْتَاز",
    "סרט מצוין שָׁלוֹם",
    "यह फिल्म बहुत अच्छी है",
    "ภาพยนตร์เรื่องนี้ดีมาก",
    "loved it 😀👍🏽 family 👨‍👩‍👧 flag 🇩🇪 heart ❤️ melting 🫠 shaking 🫨",
    "😀",
    "wait...what?!?!?! --- no way!!!!",
    "(((a))) [[b]] {{c}} <d> \"e\" 'f' `g` ~h~ |i|",
    "don't won't it's o'clock rock'n'roll",
    "$9.99 + 5% = #1 & more * 2 ^ 3 \\ / @home _under_ score",
    "“curly” ‘quotes’ – en — em … ellipsis • bullet · dot « guillemets »",
    "zero\u0000byte bell\u0007 del\u007f nel\u0085 shy\u00ad",
    "zero\u200bwidth joiner\u200d mark\u200e bom\ufeff bad\ufffd",
    "tab\tnew\nline\r\nreturn\x0bvertical\x0cfeed",
    "nbsp\u00a0thin\u2009ideographic\u3000line\u2028paragraph\u2029end",
    "private \ue000 unassigned \u0378 \U000e0041 tag",
    "Z̷̢̛͍a̴l̶g̵o̸ text",
    "[CLS] typed [SEP] by hand [MASK][PAD] and [UNK]",
    "[cls] [MASK [SEP]] x[MASK]y",
    "constructor toString __proto__ hasOwnProperty",
    "##ing ##s # # unaffable",
    "http://a.b/c?d=e&f=g user@example",
    "3.14159 1,000,000 2026-11-28 10:30 v2.0b",
    "a\u0327\u0301 \u0301lone \u0345 \u037e \u1fef \u2260 \u212b \u1e9b\u0323",
]
EXPLAIN = "text => ({...bertCNN.explain(model, text), hidden: null, maps: null})"
CONFIGS = {
    "embedded": {"id2label": {0: "negative", 1: "positive"}},
    "random": {
        "id2label": {0: "bad", 1: "so-so", 2: "good"},
        "kernel_sizes": (1, 2, 7),
        "num_filters": 6,
        "hidden_units": 16,
    },
}


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def save(tmp_path_factory, random_encoder):
    """save(encoder): a folder with a classifier of random head and its tokenizer, as save_pretrained writes it."""

    def save(encoder, **config):
        torch.manual_seed(3)
        name = random_encoder if encoder == "random" else encoder
        model = BertCNN.from_encoder(name, **CONFIGS[encoder] | config)
        with torch.no_grad():
            for parameter in [*model.convs.parameters(), *model.classifier.parameters()]:
                parameter.add_(0.02 * torch.randn_like(parameter))  # biases, too
        folder = tmp_path_factory.mktemp("classifier")
        model.save_pretrained(folder)
        load_tokenizer(name).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module")
def site(tmp_path_factory, save):
    """A folder with a page that holds the box alone, as the book has it, and the embedded encoder's classifier."""
    folder = tmp_path_factory.mktemp("site")
    for path in [BOOK.parent / "book.css", *(BOOK / name for name in box.SCRIPTS)]:
        shutil.copy(path, folder)
    tool.write(save("embedded"), folder / WEIGHTS)
    scripts = "".join(f'<script defer src="{name}"></script>' for name in box.SCRIPTS)
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    style = '<link rel="stylesheet" href="book.css">'
    form = box.FORM.read_text(encoding="utf-8").format(megabytes=15)
    (folder / "page.html").write_text(f"{head}{style}{scripts}<main>{form}</main>", encoding="utf-8")
    return folder


@pytest.fixture
def page(browser, site):
    """The site's page; `troubles` and `asked` note what goes wrong, and what is fetched."""
    page = browser.new_page()
    page.troubles, page.asked = [], []
    page.on("console", lambda message: message.type in ("error", "warning") and page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto((site / "page.html").as_uri())
    yield page
    page.close()


@pytest.fixture(scope="module", params=["embedded", "random"])
def spelling(request, browser, save, tmp_path_factory):
    """A classifier: (page that has it as `model`, the PyTorch model, its tokenizer)."""
    folder, site = save(request.param), tmp_path_factory.mktemp("spelling")
    tool.write(folder, site / WEIGHTS)
    page = browser.new_page()
    page.goto("about:blank")
    for path in (BOOK / "bert_cnn.js", site / WEIGHTS):
        page.add_script_tag(content=path.read_text(encoding="utf-8"))
    page.evaluate("void (globalThis.model = bertCNN.unpack(bertCNN.file))")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = min(tokenizer.model_max_length, 256)
    model = BertCNN.from_pretrained(folder, dtype=torch.float32).eval()
    yield page, model, tokenizer
    page.close()


def in_half_precision(model):
    """The model with the weights that the browser has."""
    return copy.deepcopy(model).half().float()


def ids_of(page, texts) -> list:
    code = "texts => texts.map(text => bertCNN.tokenize(model.tokenizer, text).tokens.map(token => token.id))"
    return page.evaluate(code, texts)


def test_it_can_be_read_in_one_sitting():
    assert len((BOOK / "bert_cnn.js").read_text(encoding="utf-8").splitlines()) <= 300


def test_tokens_are_the_tokenizers(spelling):
    page, _, tokenizer = spelling
    assert len(TEXTS) == len(set(TEXTS)) == 50
    wanted = tokenizer(TEXTS, truncation=True)["input_ids"]
    for text, one, other in zip(TEXTS, ids_of(page, TEXTS), wanted, strict=True):
        assert one == other, repr(text)


def test_every_character_is_read_as_the_tokenizer_reads_it(spelling):
    """Within a word and apart, for every character that Unicode has given a meaning."""
    page, _, tokenizer = spelling
    codes = [code for code in [*range(0x32000), *range(0xE0000, 0xE0200)] if not 0xD800 <= code < 0xE000]
    words = [f"a{chr(code)}s {chr(code)}" for code in codes]
    texts = [" ".join(words[i : i + 25]) for i in range(0, len(words), 25)]
    wanted = tokenizer(texts, truncation=True)["input_ids"]
    assert sum(len(ids) == 256 for ids in wanted) == 0  # nothing is cut
    wrong = [text for text, one, two in zip(texts, ids_of(page, texts), wanted, strict=True) if one != two]
    assert wrong == []


def test_every_step_is_pytorchs(spelling):
    page, model, tokenizer = spelling
    rounded = in_half_precision(model)
    code = """text => {
      const {hidden, maps, features, logits} = bertCNN.run(model, text), plain = (all) => Array.from(all);
      return JSON.stringify({hidden: plain(hidden), maps: maps.map(plain), features: plain(features),
                             logits: plain(logits)});
    }"""
    for text in TEXTS:
        inputs = tokenizer(text, truncation=True, return_tensors="pt")
        with torch.no_grad():
            exact = model(**inputs).logits[0].numpy()
            hidden = rounded.embed(**inputs)
            maps = rounded.convolve(hidden, inputs["attention_mask"])
            features = rounded.pool(maps)
            logits = rounded.classify(features)
        T = hidden.shape[1]
        widths = [max(1, T - k + 1) for k in model.config.kernel_sizes]  # the windows within the text
        wanted = {
            "hidden": hidden.flatten().numpy(),
            "maps": [m[0, :width].flatten().numpy() for m, width in zip(maps, widths, strict=True)],
            "features": features.flatten().numpy(),
            "logits": logits[0].numpy(),
        }
        found = json.loads(page.evaluate(code, text))
        assert_same(found, wanted, ROUNDED, repr(text[:40]))
        np.testing.assert_allclose(found["logits"], exact, rtol=0, atol=UNROUNDED)


def test_the_windows_are_those_of_the_package(spelling):
    """Each counted once, with the sum of what `companion.attribution` gives its filters; all of them and the bias
    are the difference between the two logits."""
    page, model, tokenizer = spelling
    texts = [text for text in TEXTS if text.strip()][:20]
    for text, wanted in zip(texts, explain(in_half_precision(model), texts, tokenizer=tokenizer), strict=True):
        found = page.evaluate(EXPLAIN, text)
        label, against = found["label"], found["against"]
        assert [label, against] == list(np.argsort(-wanted.logits)[:2])
        totals = {}
        for window, value in zip(wanted.read, wanted.values[label] - wanted.values[against], strict=True):
            totals[window] = totals.get(window, 0) + value
        windows = {(window["start"], window["size"]): window["value"] for window in found["windows"]}
        assert len(windows) == len(found["windows"])
        assert windows == pytest.approx({window: totals[window] for window in windows}, abs=ROUNDED)
        assert sum(abs(value) for window, value in totals.items() if window not in windows) < ROUNDED
        assert found["bias"] == pytest.approx(wanted.bias[label] - wanted.bias[against], abs=ROUNDED)
        assert found["bias"] + sum(windows.values()) == pytest.approx(found["difference"], abs=1e-5)
        odds = np.exp(wanted.logits - wanted.logits.max())
        assert found["probability"] == pytest.approx(odds[label] / odds.sum(), abs=ROUNDED)
        assert found["isCut"] == bool(wanted.cut)


def ask(page, text: str) -> str:
    """What the box says of a text that is typed and sent with Enter."""
    field = page.get_by_role("textbox")
    field.fill(text)
    field.press("Enter")
    page.wait_for_function("!/^(Reading|$)/.test(document.querySelector('[role=status]').textContent)")
    return page.get_by_role("status").inner_text()


def shown(page) -> list[tuple[str, float]]:
    """(words, value in thousandths) of each row of the box's table."""
    rows = page.locator("tbody tr").evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText))")
    return [(words, int(re.sub(r"[.+]", "", value.replace("−", "-")))) for words, _, value in rows]


def test_the_box_answers_the_keyboard(page):
    assert not [url for url in page.asked if WEIGHTS in url]  # a reader who asks nothing loads nothing
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.labels[0].textContent").startswith("Write a sentence")
    page.keyboard.press("Control+a")
    page.keyboard.type("A warm and funny film")
    page.keyboard.press("Shift+Enter")  # a new line
    page.keyboard.type("for once.")
    assert page.get_by_role("status").inner_text() == ""
    page.keyboard.press("Enter")
    page.get_by_role("table").wait_for()
    assert page.get_by_role("textbox").input_value() == "A warm and funny film\nfor once."
    assert re.fullmatch(
        r"(positive|negative), with a probability of \d\d\.\d%\.", page.get_by_role("status").inner_text()
    )
    assert page.get_by_role("status").get_attribute("aria-live") == "polite"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Classify"
    page.keyboard.press("Enter")
    page.get_by_role("table").wait_for()
    assert page.troubles == []
    assert [url for url in page.asked if not url.startswith("file:")] == []
    assert sum(WEIGHTS in url for url in page.asked) == 1


def test_what_is_shown_adds_up_to_the_last_digit(page):
    for text in [text for text in TEXTS if text.strip()][::3]:
        ask(page, text)
        *parts, (name, total) = shown(page)
        assert name == "sum" and sum(value for _, value in parts) == total, text
        page.evaluate("void (globalThis.model ??= bertCNN.unpack(bertCNN.file))")
        found = page.evaluate(EXPLAIN, text)
        assert abs(total - 1000 * found["difference"]) < 0.6
        exact = [window["value"] for window in found["windows"]]
        exact = [*exact[:5], *([sum(exact[5:])] if len(exact) > 5 else []), found["bias"]]
        assert np.abs(np.array([value for _, value in parts]) - 1000 * np.array(exact)).max() < 1
        assert [words for words, _ in parts[:-1]][:5] == [window["words"] for window in found["windows"][:5]]


def test_windows_are_named_by_the_words_they_read(page):
    text = "Crème  brûlée, unbelievably!"
    ask(page, text)
    named = {words for words, _ in shown(page)[:5]}
    whole = "[CLS] Crème brûlée, unbelievably! [SEP]"
    assert named and all(words in whole for words in named)
    assert set(re.findall(r"\w+", " ".join(named))) <= set(re.findall(r"\w+", whole))  # no piece of a word


def test_a_text_that_is_too_long_is_said_to_be_cut(page):
    assert ask(page, "a warm film . " * 200).endswith("Only the first 256 tokens were read.")
    assert "tokens were read" not in ask(page, "a warm film . " * 20)


def test_an_empty_text_is_asked_for(page):
    assert ask(page, "good") and page.get_by_role("table").is_visible()
    assert ask(page, " \n") == "Write a sentence first."
    assert not page.get_by_role("table").is_visible()


@pytest.mark.parametrize("damage", ["missing", "cut short", "other weights"])
def test_a_load_failure_is_one_sentence_and_the_next_try_works(page, site, damage):
    path, whole = site / WEIGHTS, (site / WEIGHTS).read_text(encoding="utf-8")
    short = whole.replace('"halves":"', '"halves":"AAAA')
    try:
        path.unlink() if damage == "missing" else path.write_text(whole[:-5000] if damage == "cut short" else short)
        said = ask(page, REVIEW)
    finally:
        path.write_text(whole, encoding="utf-8")
    assert said.startswith("The model could not be loaded: ") and said.count(". ") <= 1
    assert not page.get_by_role("table").is_visible()
    assert "with a probability of" in ask(page, REVIEW)


@pytest.mark.parametrize("text", [REVIEW, "x" * 300, "W" * 90 + " " + "W" * 90])
def test_nothing_moves_sideways_on_a_phone(page, text):
    page.set_viewport_size({"width": 390, "height": 844})
    ask(page, text)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


REFUSED = {
    "the exact GELU": ("config", lambda c: c["encoder_config"].update(hidden_act="gelu"), "tanh form of GELU only"),
    "a decoder": ("config", lambda c: c["encoder_config"].update(is_decoder=True), "BERT encoder only"),
    "another encoder": ("config", lambda c: c["encoder_config"].update(model_type="distilbert"), "BERT encoder only"),
    "several labels at once": ("config", lambda c: c.update(problem_type="multi_label_classification"), "out of two"),
    "a number": ("config", lambda c: c.update(id2label={"0": "score"}), "out of two"),
    "a cased tokenizer": ("tokenizer_config", lambda t: t.update(do_lower_case=False), "uncased WordPiece"),
    "texts cut at the start": ("tokenizer_config", lambda t: t.update(truncation_side="left"), "uncased WordPiece"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_browser_would_compute_wrongly_is_refused(what, save, tmp_path):
    name, change, said = REFUSED[what]
    folder = save("random")
    path = folder / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=said) as error:
        tool.write(folder, tmp_path / WEIGHTS)
    assert len(re.findall(r"\.(\s|$)", str(error.value))) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_is_not_wordpiece_is_refused(save, tmp_path):
    folder = save("random")
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    with pytest.raises(ValueError, match="uncased WordPiece"):
        tool.write(folder, tmp_path / WEIGHTS)


def test_a_classifier_that_is_incomplete_is_refused(save, tmp_path):
    folder, target = save("random"), tmp_path / WEIGHTS
    with pytest.raises(ValueError, match=r"holds no classifier: it has no config.json"):
        tool.write(tmp_path, target)
    weights = folder / "model.safetensors"
    whole = load_file(weights)
    save_file(whole | {"classifier.bias": np.full(3, 1e6, np.float32)}, weights)
    with pytest.raises(ValueError, match=r"'classifier.bias' do not fit into half precision"):
        tool.write(folder, target)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors of .* is damaged or cut short"):
        tool.write(folder, target)
    weights.unlink()
    with pytest.raises(ValueError, match=r"it has no model.safetensors"):
        tool.write(folder, target)
    assert list(tmp_path.iterdir()) == []
