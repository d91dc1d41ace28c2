"""The rendered book, as a reader's browser sees it.

The book is built over the run ``smoke`` (few questions) into a temporary folder; the pages, the
chapters and the build are those of ``make book``.
"""

import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
RUNS = {"tiny-llava": "smoke", "tiny-instructblip": "smoke-instructblip"}
PAGES = ["index"] + [
    re.sub("runs/([^/]+)/", lambda m: f"runs/{RUNS[m[1]]}/", chapter["file"])
    for part in TOC["parts"]
    for chapter in part["chapters"]
]
# The second run's pages come from the same chapters as the first one's.
OWN_MARKUP = [page for page in PAGES if not page.startswith(f"runs/{RUNS['tiny-instructblip']}/")]
# Markup that docutils writes for every bibliography; no page can change it.
NOT_OURS = ("aria-deprecated-role", "aria-required-children")
spec = importlib.util.spec_from_file_location("vseam_book", ROOT / "book/_ext/vseam_book.py")
vseam_book = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vseam_book)


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    """Folder of the book over the run ``smoke``; fails with the build's own words."""
    target = tmp_path_factory.mktemp("book") / "html"
    snakemake = Path(sys.executable).with_name("snakemake")
    done = subprocess.run(
        [snakemake, "-c2", "--nolock", "--rerun-incomplete"]
        + ["--config", f"run={','.join(RUNS.values())}", f"html={target}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "VSEAM_RUN"},
    )
    if done.returncode:
        pytest.fail(f"the book does not build:\n{done.stdout}\n{done.stderr[-6000:]}", False)
    return target


@pytest.fixture(scope="session")
def site(html):
    """Address at which the book is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=html)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser(site):
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser, site):
    """Open tabs with ``tab(path, ...)``; whatever went wrong in them fails the test at its end."""
    wrong, contexts = [], []

    def open_tab(path: str, *, width: int = 1280, theme: str = "light", base: str = site):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: m.type == "error" and wrong.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: wrong.append(f"script: {e}"))
        page.on("response", lambda r: r.status >= 400 and wrong.append(f"{r.status}: {r.url}"))
        page.on(
            "request",
            lambda r: (
                r.url.startswith((site, "data:", "blob:", "file:"))
                or wrong.append(f"leaves the machine: {r.url}")
            ),
        )
        page.goto(f"{base}/{path}")
        page.wait_for_load_state("networkidle")
        return page

    yield open_tab
    for context in contexts:
        context.close()
    assert not wrong, "\n".join(wrong)


# --------------------------------------------------------------------------- without a browser


def test_no_page_names_another_host_for_anything_it_loads(html):
    loads = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(https?:)?//|<link[^>]*"
        r"rel=\"(?:stylesheet|preload|icon)\"[^>]*href=\"https?://|url\(['\"]?https?:"
    )
    for page in [*html.rglob("*.html"), *html.glob("_static/**/*.css")]:
        found = loads.search(page.read_text(encoding="utf-8"))
        assert not found, f"{page.relative_to(html)}: {found[0]}"


def test_numbers_on_the_home_page_are_those_of_the_notebooks(html):
    home = re.sub(r"<[^>]+>", "", (html / "index.html").read_text())
    sources = re.findall(
        r"\{glue:text\}`(runs/\S+\.ipynb)::(\w+):([^`]+)`", (ROOT / "book/index.md").read_text()
    )
    assert sources
    for path, key, form in sources:
        notebook = nbformat.read(ROOT / "book" / swapped(path), as_version=4)
        value = next(
            output.data["application/papermill.record/text/plain"]
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if output.get("metadata", {}).get("scrapbook", {}).get("name", "").endswith(key)
        )
        assert format(json.loads(value), form) in home, key


def test_no_link_between_pages_is_broken(html):
    for page in html.rglob("*.html"):
        for link in re.findall(r'href="([^"#:?]+\.html)[#"]', page.read_text()):
            assert (page.parent / link).resolve().is_file(), f"{page.name} -> {link}"


def test_a_missing_chapter_is_named_with_the_command_that_runs_it(tmp_path, monkeypatch):
    monkeypatch.delenv("VSEAM_RUN", raising=False)
    (tmp_path / "_toc.yml").write_text("root: index\nchapters:\n- file: runs/mine/05_heads\n")
    app = SimpleNamespace(srcdir=tmp_path, doctreedir=tmp_path / "trees")
    config = SimpleNamespace(external_toc_path="_toc.yml")
    with pytest.raises(ExtensionError, match=r"snakemake -c2 book/runs/mine/05_heads\.ipynb"):
        vseam_book.choose_run(app, config)


def test_a_page_depends_on_the_notebooks_its_numbers_come_from(tmp_path):
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/01.ipynb").write_text("{}")
    noted = []
    app = SimpleNamespace(
        srcdir=tmp_path,
        config=SimpleNamespace(vseam_swap={}),
        env=SimpleNamespace(note_dependency=noted.append),
    )
    vseam_book.read_source(app, "index", ["{glue:text}`runs/mine/01.ipynb::n:d`"])
    assert noted == [str(tmp_path / "runs/mine/01.ipynb")]
    with pytest.raises(ExtensionError, match="snakemake -c2 book/runs/mine/02.ipynb"):
        vseam_book.read_source(app, "index", ["{glue:}`runs/mine/02.ipynb::n`"])


def test_another_run_takes_the_place_of_the_shown_one():
    page = "[x](runs/tiny/05) {ref}`tiny-fig-a` not-tiny-fig-a tiny-figure profiles/tiny.yml"
    assert swap(page) == (
        "[x](runs/mine/05) {ref}`mine-fig-a` not-tiny-fig-a tiny-figure profiles/tiny.yml"
    )


def swap(text):
    return vseam_book.swap_runs(text, {"tiny": "mine"})


def swapped(text):
    return vseam_book.swap_runs(text, RUNS)


# ------------------------------------------------------------------------------ in the browser


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_page_opens_without_error_and_fits_a_telephone(tab, path, theme):
    page = tab(f"{path}.html", width=360, theme=theme)
    assert page.locator("h1").first.inner_text()
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, widest(page)
    broken = page.evaluate(
        "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    )
    assert not broken


def widest(page) -> str:
    return page.evaluate(
        "[...document.querySelectorAll('main *')]"
        ".filter(e => e.getBoundingClientRect().right > 361)"
        ".slice(0, 5).map(e => e.outerHTML.slice(0, 120)).join('\\n')"
    )


@pytest.mark.browser
def test_table_of_contents_leads_to_every_page(tab):
    page = tab("index.html")
    entries = page.locator(".bd-sidebar-primary nav.bd-links a.reference.internal")
    titles = [title for title in entries.all_inner_texts() if title.strip()]
    assert len(titles) == len(PAGES)
    for k, title in enumerate(titles[1:], start=1):  # both runs have chapters of the same name
        entries.nth(k).click()
        page.wait_for_load_state("networkidle")
        assert page.locator("h1").first.inner_text().rstrip("#").strip() == title.strip()


@pytest.mark.browser
def test_search_finds_a_page_and_marks_its_words(tab):
    page = tab("index.html")
    page.keyboard.press("Control+k")
    box = page.locator("input[type=search]:visible").first
    box.fill("masked")
    box.press("Enter")
    page.wait_for_selector("#search-results li a:has-text('The method')")


@pytest.mark.browser
@pytest.mark.parametrize("served", [True, False], ids=["http", "file"])
def test_mathematics_is_rendered_with_the_numbers_of_the_paper(tab, html, site, served):
    page = tab("method.html", base=site if served else f"file://{html}")
    page.wait_for_selector("mjx-container[display=true]")
    page.wait_for_function("document.querySelectorAll('mjx-container[display=true]').length == 10")
    numbers = page.locator("span.eqno").all_inner_texts()
    assert [re.sub(r"\D", "", number) for number in numbers] == [str(n) for n in range(1, 11)]
    assert not page.locator("mjx-merror").count()


@pytest.mark.browser
def test_the_reader_can_switch_the_theme(tab):
    page = tab("index.html")
    seen = set()
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.click()
        seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}


@pytest.mark.browser
def test_a_chapter_says_how_it_was_run_and_folds_its_code(tab):
    page = tab("runs/smoke/05_heads.html")
    card = page.locator("details.this-run")
    card.locator("summary").click()
    assert "python -m vseam_lib.runner 05_heads --profile smoke" in card.inner_text()
    assert card.locator("tbody tr").count() >= 3
    downloads = page.locator("a.download").all_inner_texts()
    assert downloads == ["05_heads.py", "05_heads.ipynb"]
    assert not page.get_by_text("Parameters", exact=True).count()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", OWN_MARKUP)
def test_page_passes_the_accessibility_rules(tab, path, theme):
    from axe_playwright_python.sync_playwright import Axe

    page = tab(f"{path}.html", theme=theme)
    # Entries of the library have the same markup hundreds of times; auditing all takes minutes.
    page.evaluate("document.querySelectorAll('dl.py').forEach((e, k) => k > 40 && e.remove())")
    rules = {
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
        "rules": {rule: {"enabled": False} for rule in NOT_OURS},
        "resultTypes": ["violations"],
        "preload": False,
    }
    found = Axe().run(page, options=rules).response["violations"]
    assert not found, "\n".join(
        f"{rule['id']}: {rule['help']}\n  "
        + "\n  ".join(n["html"][:200] for n in rule["nodes"][:3])
        for rule in found
    )
