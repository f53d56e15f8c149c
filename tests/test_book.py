"""The web book, as a reader opens it: built without a warning, from a folder, in a browser with no network."""

import itertools
import os
import re
import runpy
import subprocess
import sys
from html import unescape
from pathlib import Path

import nbformat
import pytest
from pybtex.database import parse_file

from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN
from tests.browser import CHROMIUM, assert_kept, open_browser, take_picture
from tools import book, box, publish, reading, series

ROOT = Path(__file__).parent.parent
NOTEBOOKS = [path.stem for path in series.notebooks()]
COURSE = ROOT / "notebooks" / "coursework"
TEACHING = [f"coursework/{name}" for name in ("README", "grading") if (COURSE / f"{name}.md").exists()]
PAGES = ["index", *NOTEBOOKS, *TEACHING, "spellings", "glossary", "api", "checked", "bibliography", "search"]
PHONE = {"width": 390, "height": 844}
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; apt-get install chromium")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The book, built by the command of `make book`; a warning is a failure."""
    command = re.search(r"-m (sphinx .*)", (ROOT / "Makefile").read_text(encoding="utf-8"))[1]
    assert {"-W", "-n"} <= set(command.split())
    folder = tmp_path_factory.mktemp("book")
    options = []
    if not (ROOT / "companion" / "assets" / "classifier").is_dir():  # a checkout before it was trained: a random head
        classifier = tmp_path_factory.mktemp("classifier")
        BertCNN.from_encoder(id2label={0: "negative", 1: "positive"}).save_pretrained(classifier)
        load_tokenizer().save_pretrained(classifier)
        options = ["-D", f"classifier={classifier}"]
    done = subprocess.run(
        [sys.executable, "-m", *command.replace("build/", f"{folder.as_posix()}/").split(), *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "IN_CLASS": "yes"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "book"


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A fresh page that notes what goes wrong, and asks for, in `troubles` and `asked`."""
    context = browser.new_context()
    page = context.new_page()
    page.troubles, page.asked = [], []
    page.on("console", lambda message: message.type in ("error", "warning") and page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("requestfailed", lambda request: page.troubles.append(f"{request.url}: {request.failure}"))
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    context.close()


def test_the_students_book_leaves_the_teachers_pages_out(monkeypatch):
    patterns = {}
    for in_class in ("", "yes"):
        monkeypatch.setenv("IN_CLASS", in_class)
        patterns[in_class] = runpy.run_path(str(ROOT / "notebooks" / "conf.py"))["include_patterns"]
    assert not any("coursework" in pattern for pattern in patterns[""])
    assert set(patterns["yes"]) - set(patterns[""]) == {f"{page}.md" for page in TEACHING}


def html(built, name) -> str:
    return (built / f"{name}.html").read_text(encoding="utf-8")


def cells(name) -> list:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells


@needs_browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_from_a_folder(built, page, name):
    page.goto((built / f"{name}.html").as_uri(), wait_until="load")
    assert page.locator("h1:visible").count() == 1
    assert page.troubles == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []


@needs_browser
@pytest.mark.parametrize("name", PAGES)
def test_nothing_moves_sideways_on_a_phone(built, page, name):
    page.set_viewport_size(PHONE)
    page.goto((built / f"{name}.html").as_uri(), wait_until="load")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@needs_browser
def test_a_spelling_chosen_once_is_chosen_on_every_page(built, page):
    def shown(spelling):
        tabs = page.locator(f'label[data-sync-group="spelling"][data-sync-id="{spelling}"]')
        return tabs.evaluate_all("all => all.map(label => document.getElementById(label.htmlFor).checked)")

    page.goto((built / "index.html").as_uri())
    assert shown("pytorch") == [True] and shown("keras") == [False]
    page.get_by_text("Keras", exact=True).locator("visible=true").first.click()
    assert shown("keras") == [True] and page.get_by_text("companion.keras_class").first.is_visible()
    page.goto((built / "spellings.html").as_uri())
    assert shown("keras") == [True] * 5 and shown("pytorch") == shown("javascript") == [False] * 5
    page.locator('label[data-sync-id="functional"]').nth(2).click()
    assert shown("functional") == [True] * 5
    page.goto((built / "api.html").as_uri())
    assert shown("functional") == [True] and page.get_by_text("build_bert_cnn").locator("visible=true").count() == 0
    page.locator('label[data-sync-id="graph"]').click()
    assert shown("graph") == [True] and page.get_by_text("build_bert_cnn").locator("visible=true").count() > 0


@needs_browser
def test_the_model_answers_on_the_front_page_and_beside_the_notebooks_that_use_it(built, page):
    with_box = [name for name in PAGES if 'class="bert-cnn-box"' in html(built, name)]
    assert with_box == ["index", "00_start_here", "09_what_the_filters_read"]
    for name in with_box:
        page.goto((built / f"{name}.html").as_uri())
        page.get_by_label("Write a sentence about a film").press("Enter")
        page.get_by_text(re.compile(r"^(positive|negative), with a probability of \d+\.\d%\.$")).wait_for()
        parts = page.locator(".bert-cnn-box tbody td:last-child").all_inner_texts()
        *parts, total = [int(re.sub(r"[+.]", "", part.replace("−", "-"))) for part in parts]
        assert len(parts) == 7 and sum(parts) == total
    assert page.troubles == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []


@needs_browser
def test_the_box_and_lit_text_are_as_in_the_readmes_pictures(built, page):
    page.set_viewport_size({"width": 1100, "height": 900})
    page.goto((built / "index.html").as_uri())
    page.get_by_label("Write a sentence about a film").press("Enter")
    page.locator(".bert-cnn-box tbody td").first.wait_for()
    assert_kept(take_picture(page.locator(".bert-cnn-box"), "box.png"), "box.png")
    page.goto((built / "00_start_here.html").as_uri())
    lit = page.locator(".cell_output .text_html:has(mark)").first
    assert_kept(take_picture(lit, "lit_text.png"), "lit_text.png")


@needs_browser
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_line_of_code_is_cut_at_1400_pixels(built, page, name):
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto((built / f"{name}.html").as_uri(), wait_until="load")
    wide = "all => all.filter(pre => pre.scrollWidth > pre.clientWidth).map(pre => pre.innerText.slice(0, 80))"
    assert page.locator(".cell_input pre").evaluate_all(wide) == []


def test_each_definition_that_is_shown_can_be_linked_to(built):
    for name in NOTEBOOKS:
        for shown in filter(None, (reading.name_of(cell.source) for cell in cells(name) if cell.cell_type == "code")):
            assert f'id="{shown}"' in html(built, name)
            assert f'href="#{shown}">Link to this definition</a>' in html(built, name)
            if shown in html(built, "api"):
                assert f'href="api.html#{shown}"' in html(built, name)


def test_each_page_of_the_series_leads_to_the_next(built):
    for name, after in itertools.pairwise(NOTEBOOKS):
        assert re.search(rf'class="right-next"\s+href="{after}.html"', html(built, name))
        assert re.search(rf'class="left-prev"\s+href="{name}.html"', html(built, after))


@needs_browser
def test_the_weights_are_fetched_by_who_asks_only(built, page):
    page.goto((built / "index.html").as_uri(), wait_until="load")
    assert any("bert_cnn.js" in url for url in page.asked)
    assert not any(Path(box.WEIGHTS).name in url for url in page.asked)


@needs_browser
def test_search_finds_padding(built, page):
    page.goto((built / "index.html").as_uri())
    page.locator(".search-button-field:visible").click()
    page.keyboard.type("padding")
    page.keyboard.press("Enter")
    found = page.locator('#search-results a[href*="02_convolutions_over_text.html"]').first
    found.wait_for()
    assert page.troubles == []
    found.click()
    page.locator("h1:visible", has_text="Convolutions over text").wait_for()


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_reader_chooses_light_or_dark(built, browser, theme):
    context = browser.new_context(color_scheme=theme)
    page = context.new_page()
    page.goto((built / "index.html").as_uri())
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (lightness > 200) if theme == "light" else (lightness < 60)
    context.close()


def test_every_figure_has_its_alternative_text(built):
    for name in [page for page in PAGES if page != "search"]:
        article = html(built, name).split("<article", 1)[1].split("</article>")[0]
        alts = [unescape(alt) for alt in re.findall(r'<img\b[^>]*?\balt="([^"]*)"', article)]
        assert len(alts) == article.count("<img") and all(re.search(r"\w \w", alt) for alt in alts)  # words, not a file
        if name in NOTEBOOKS:
            outputs = [output for cell in cells(name) for output in cell.get("outputs", [])]
            drawn = [alt for cell in cells(name) for alt in re.findall(r"!\[([^\]]+)\]\(\w+\.svg\)", cell.source)]
            alts = [alt for alt in alts if alt not in drawn]
            assert alts == [o.metadata["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]


def test_each_notebook_can_be_launched_and_downloaded(built):
    for name in NOTEBOOKS:
        address = f"{publish.COLAB}/github/{publish.repository()}/blob/main/notebooks/{name}.ipynb"
        launched = bool(publish.repository())  # by the button; the link that says the same is for elsewhere
        assert html(built, name).count(address) == launched
        assert (built / "_sources" / f"{name}.ipynb").read_bytes() == (
            ROOT / "notebooks" / f"{name}.ipynb"
        ).read_bytes()


def test_what_only_colab_needs_is_not_shown(built):
    for name in NOTEBOOKS:
        assert "google.colab" not in html(built, name) and "colab-badge" not in html(built, name)


def test_the_pages_follow_the_series_and_are_linked(built):
    links = re.findall(r'class="toctree-l1"><a class="reference internal" href="([^"]+)\.html"', html(built, "index"))
    assert links[: len(NOTEBOOKS)] == NOTEBOOKS
    table = html(built, "index").split('id="the-series"', 1)[1].split("<table", 1)[1].split("</table>")[0]
    assert set(re.findall(r'href="(\d\d_\w+)\.html"', table)) == set(NOTEBOOKS)


def test_the_spellings_lead_to_each_other_section_by_section(built):
    for name, others in [(name, set(book.SPELLINGS) - {name}) for name in book.SPELLINGS]:
        links = re.findall(r'href="(\d\d_\w+)\.html#([\w-]+)">\w+</a>', html(built, name))
        assert {page for page, _ in links} == others
        assert len(links) == 2 * sum(cell.source.count("\n## ") + cell.source.startswith("## ") for cell in cells(name))
        assert all(f'<section id="{section}">' in html(built, page) for page, section in links)


def test_no_absolute_path_is_in_the_book(built):
    texts = [path for path in built.rglob("*") if path.suffix in (".html", ".ipynb", ".md", ".js", ".css")]
    assert len(texts) > len(PAGES)
    assert not [path for path in texts if ROOT.as_posix() in path.read_text(encoding="utf-8")]


def test_no_solution_is_in_the_book(built):
    marks = re.compile(rb"(BEGIN|END) (SOLUTION|HIDDEN TESTS)")
    course = {path.name for path in COURSE.rglob("*.ipynb")}
    for path in built.rglob("*"):
        assert path.name not in course, path
        if path.suffix in (".html", ".ipynb", ".js", ".md", ".txt") and "coursework" not in path.parts:
            assert not marks.search(path.read_bytes()), path
    assert not list((built / "_downloads").rglob("*"))


def test_what_the_index_shows_runs():
    """The code in the tabs, each in a fresh namespace: every spelling gives two logits for one review."""
    blocks = re.findall(r"(?s)```python\n(.*?)```", (ROOT / "notebooks" / "index.md").read_text(encoding="utf-8"))
    assert len(blocks) == 4
    for block in blocks:
        names = {}
        exec(block, names)
        assert tuple(names["logits"].shape) == (1, 2)


def test_the_bibliography_holds_what_is_cited():
    cards = [ROOT / "README.md", *(ROOT / "companion").rglob("*.md"), *(ROOT / "companion").rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in cards]
    texts += [cell.source for name in NOTEBOOKS for cell in cells(name) if cell.cell_type == "markdown"]
    keys = {key for text in texts for _, key in book.cited(text)}
    listed = set(parse_file(ROOT / "notebooks" / "references.bib").entries)
    assert listed - keys == set(), "These are cited nowhere."
    assert keys - listed <= {"in2014"}, "These are missing from references.bib."


@pytest.mark.parametrize(
    "name, citation",
    [("09_what_the_filters_read", r"Jacovi et al\. 2018"), ("08_does_the_cnn_help", r"Gao, Yao and Chen\s2021")],
)
def test_citations_lead_to_the_bibliography(built, name, citation):
    link = re.search(rf'href="bibliography.html#([\w-]+)">{citation}</a>', html(built, name))
    assert link and f'id="{link[1]}"' in html(built, "bibliography")


def test_notebooks_that_are_named_are_linked(built):
    """As in "what BERT and a convolution are (notebooks 01 and 02)"."""
    links = (f'<a class="reference internal" href="{name}.html">{name[:2]}</a>' for name in NOTEBOOKS[1:3])
    assert f"(notebooks {' and '.join(links)})" in html(built, "04_keras_class")


@pytest.mark.parametrize(
    "name, term", [("01_words_in_context", "attention-mask"), ("02_convolutions_over_text", "filter")]
)
def test_a_term_leads_to_the_glossary_where_it_is_used_first(built, name, term):
    assert len(re.findall(rf'href="glossary.html#{term}"', html(built, name))) == 1
    assert f'id="{term}"' in html(built, "glossary")


def test_the_longest_term_is_meant():
    """As in "attention mask", which is not "attention"; and in a plural."""
    found = book.terms((ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8"))
    assert 40 <= len(found) <= 60
    pattern = book.a_term(found)
    assert [match[1] for match in pattern.finditer("An attention mask, two feature maps.")] == [
        "attention mask",
        "feature map",
    ]


def test_solutions_are_folded_away_below_the_exercises(built):
    page = html(built, "02_convolutions_over_text")
    assert page.count("<details") == 4 and "<details open" not in page
    assert page.index('id="exercises"') < page.index("<details")


def test_docstrings_keep_their_layout(built):
    api = html(built, "api")
    assert re.search(r"<li><p><strong>kernel_sizes</strong>: widths", api)  # a list of settings
    assert re.search(r"</ul>\s*<p>Raises ValueError, with one sentence, for a setting", api)  # and what follows it
    assert re.search(r'<pre>.*params.*"?encoder', api)  # an indented line
