import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vseam_lib.editing import review
from vseam_lib.editing.review import Entry, contact_sheet, entries_of, outlined, read_verdicts
from vseam_lib.triples import Category, VQATriple

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
NASTY = '<script>alert("a & b")</script>'


def entry(name, *, size=(48, 36), tone=90, **changes):
    mask = np.zeros(size[::-1], bool)
    mask[10:20, 12:30] = True
    original = np.full((*mask.shape, 3), 200, np.uint8)
    edited = original.copy()
    edited[mask] = (tone, 30, 30)
    return Entry(
        **{
            "id": name,
            "category": Category.COLOR,
            "question": f"Is the car of {name} red?",
            "counterfactual": "Is the car green?",
            "shows": "red",
            "wanted": "green",
            "original": Image.fromarray(original),
            "edited": Image.fromarray(edited),
            "mask": mask,
            "accepted": True,
        }
        | changes
    )


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.hidden = [], "", False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        self.text += "" if self.hidden else data


def test_every_edit_is_on_a_page_in_the_html_and_in_the_verdict_file(tmp_path):
    entries = [entry(str(k), tone=k) for k in range(5)]
    sheet = contact_sheet(entries, tmp_path, per_page=2)
    assert [p.name for p in sheet.pages] == ["page-001.png", "page-002.png", "page-003.png"]
    assert all(Image.open(p).size[0] > 600 for p in sheet.pages)
    page = Page(sheet.html)
    for e in entries:
        assert e.question in page.text
    pictures = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 15 and all((tmp_path / p).is_file() for p in pictures)
    assert read_verdicts(sheet.verdicts, known=sheet.pictures)["id"].tolist() == list("01234")


def test_a_page_shows_original_outline_and_edit(tmp_path):
    contact_sheet([entry("a")], tmp_path)
    original, mask, edited = (
        np.asarray(Image.open(tmp_path / "pictures" / f"00000-{name}.png"))
        for name in review.PICTURES
    )
    assert original.shape == (216, 288, 3), "scaled to the longer side"
    assert (original == 200).all()
    assert (edited[90, 120] == (90, 30, 30)).all() and (edited[0, 0] == 200).all()
    changed = (mask != original).any(-1)
    assert changed.any() and (mask[90, 120] == 200).all(), "the outline leaves the inside visible"
    sheet = np.asarray(Image.open(tmp_path / "page-001.png"))
    assert (sheet == (90, 30, 30)).all(-1).any()


def test_an_outline_runs_along_the_masks_border():
    mask = np.zeros((40, 50), bool)
    mask[10:30, 15:40] = True
    marked = np.asarray(outlined(Image.new("RGB", (50, 40), "blue"), mask))
    yellow, black = ((marked == c).all(-1) for c in ((255, 209, 102), (0, 0, 0)))
    assert yellow[10, 15] and yellow[29, 39] and not yellow[20, 25]
    assert (yellow & ~mask).sum() == 0 and (black & mask).sum() == 0
    assert black[9, 20] and not black[7, 20]


def test_the_html_reaches_out_for_nothing(tmp_path):
    sheet = contact_sheet([entry("a"), entry("b", accepted=False, reasons="x")], tmp_path)
    text = sheet.html.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w|@import|url\(", text)
    page = Page(sheet.html)
    assert not [tag for tag, attrs in page.tags if tag in ("link", "iframe", "object", "base")]
    addresses = [a[k] for _, a in page.tags for k in ("src", "href", "action") if k in a]
    assert all(re.fullmatch(r"pictures/\d{5}-\w+\.png", a) for a in addresses)
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")


def test_text_is_shown_as_text(tmp_path):
    nasty = entry(
        'a"b', question=NASTY, counterfactual=NASTY, wanted=NASTY, accepted=False, reasons=NASTY
    )
    sheet = contact_sheet([nasty], tmp_path)
    page = Page(sheet.html)
    assert page.text.count(NASTY) == 4
    assert [tag for tag, _ in page.tags].count("script") == 1, "the page's own"
    (form,) = (attrs for tag, attrs in page.tags if tag == "form")
    assert form["data-id"] == 'a"b'
    assert read_verdicts(sheet.verdicts)["id"].tolist() == ['a"b']


def test_the_verdicts_of_filter_and_person_are_shown(tmp_path):
    entries = [entry("a"), entry("b", accepted=False, reasons="iou 0.1 below 0.5")]
    (tmp_path / "accept_reject.csv").write_text('id,verdict,note\nb,accept,"really ""fine"""\n')
    sheet = contact_sheet(entries, tmp_path)
    page = Page(sheet.html)
    assert "Automatic filter: accepted" in page.text
    assert "Automatic filter: rejected: iou 0.1 below 0.5" in page.text
    radios = [a for tag, a in page.tags if tag == "input" and a["type"] == "radio"]
    assert [a["value"] for a in radios if "checked" in a] == ["", "accept"]
    notes = [a["value"] for tag, a in page.tags if tag == "input" and a["type"] == "text"]
    assert notes == ["", 'really "fine"']


def test_a_second_sheet_keeps_verdicts_and_leaves_no_old_page(tmp_path):
    entries = [entry(str(k)) for k in range(4)]
    sheet = contact_sheet(entries, tmp_path, per_page=1)
    sheet.verdicts.write_text(sheet.verdicts.read_text().replace("2,,", "2,reject,"))
    keep = tmp_path / "my notes.png"
    keep.write_bytes(b"mine")
    again = contact_sheet([entries[2], replace(entries[3], edited=entries[3].original)], tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["my notes.png", "page-001.png"]
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 6
    table = read_verdicts(again.verdicts, known=again.pictures)
    assert table["verdict"].tolist() == ["reject", ""]


def test_an_edit_that_changed_needs_a_new_look(tmp_path):
    sheet = contact_sheet([entry("a")], tmp_path)
    sheet.verdicts.write_text(sheet.verdicts.read_text().replace("a,,", "a,accept,"))
    assert read_verdicts(sheet.verdicts, known=sheet.pictures)["verdict"].tolist() == ["accept"]
    again = contact_sheet([entry("a", tone=10)], tmp_path)
    assert read_verdicts(again.verdicts, known=again.pictures)["verdict"].tolist() == [""]


def test_pictures_and_masks_may_be_files(tmp_path):
    e = entry("a")
    files = {"original": e.original, "edited": e.edited, "mask": Image.fromarray(e.mask)}
    for name, picture in files.items():
        picture.save(tmp_path / f"{name}.png")
    of_files = replace(e, **{name: tmp_path / f"{name}.png" for name in files})
    one, two = (contact_sheet([x], tmp_path / k) for k, x in (("1", e), ("2", of_files)))
    assert one.pictures == two.pictures
    assert one.pages[0].read_bytes() == two.pages[0].read_bytes()


def test_long_texts_make_a_page_longer_and_no_line_wider(tmp_path):
    long = "Is the " + "very " * 80 + "large car red?"
    short, tall = (
        Image.open(contact_sheet([entry("a", question=q)], tmp_path / q[:3] / str(len(q))).pages[0])
        for q in ("Is it red?", long)
    )
    assert tall.width == short.width and tall.height > short.height
    right = np.asarray(tall)[:, -review.GAP // 2 :]
    assert (right == 255).all(), "the margin stays white"


def test_entries_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one edit"):
        contact_sheet([], tmp_path)
    with pytest.raises(ValueError, match="got 'a' more than once"):
        contact_sheet([entry("a"), entry("a")], tmp_path)
    with pytest.raises(ValueError, match="at least 1 edit per page"):
        contact_sheet([entry("a")], tmp_path, per_page=0)
    with pytest.raises(ValueError, match="edit a: expected 48 x 36"):
        contact_sheet([replace(entry("a"), edited=Image.new("RGB", (36, 48)))], tmp_path)
    with pytest.raises(ValueError, match="mask of a: expected 48 x 36"):
        contact_sheet([replace(entry("a"), mask=np.ones((48, 36), bool))], tmp_path)
    with pytest.raises(FileNotFoundError, match="none.png"):
        contact_sheet([replace(entry("a"), edited=tmp_path / "none.png")], tmp_path)


def test_entries_are_the_edited_rows_of_a_run(tmp_path):
    triples = [
        VQATriple(name, name, tmp_path / f"{name}.jpg", "Is it red?", "Yes", Category.COLOR, ())
        for name in "ab"
    ]
    table = pd.DataFrame(
        [
            {"id": "a", "stage": "asked", "accepted": False, "reasons": "no rival"},
            {
                "id": "b", "stage": "edited", "category": "color", "question": "Is it red?",
                "counterfactual": "Is it green?", "shows": "red", "wanted": "green",
                "image": tmp_path / "e.png", "mask": tmp_path / "m.png", "accepted": False,
                "reasons": "iou 0.1 below 0.5",
            },
        ]
    )  # fmt: skip
    (found,) = entries_of(table, triples)
    assert (found.id, found.original, found.edited) == ("b", triples[1].image, tmp_path / "e.png")
    assert (found.accepted, found.reasons) == (False, "iou 0.1 below 0.5")
    with pytest.raises(ValueError, match="got none of id 'b'"):
        entries_of(table, triples[:1])


@pytest.mark.browser
def test_the_page_fits_a_telephone_and_its_download_is_a_verdict_file(tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    words = "a long id " + "x" * 60
    sheet = contact_sheet([entry("a"), entry(words, accepted=False, reasons=NASTY)], tmp_path)
    requests, problems = [], []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        tab = chromium.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
        tab.on("request", lambda r: requests.append(r.url))
        tab.on("pageerror", lambda e: problems.append(str(e)))
        tab.goto(sheet.html.as_uri())
        width = tab.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, "no scrolling sideways"
        colours = "getComputedStyle(document.querySelector('nav')).backgroundColor"
        dark = tab.evaluate(colours)
        tab.emulate_media(color_scheme="light")
        assert tab.evaluate(colours) == "rgb(255, 255, 255)" != dark
        tab.get_by_label("reject").nth(1).check()
        tab.get_by_label("Note").nth(1).fill('two "lights", really')
        assert tab.locator("output").inner_text() == "1 of 2 decided"
        with tab.expect_download() as download:
            tab.get_by_role("button").click()
        download.value.save_as(sheet.verdicts)
        chromium.close()
    assert not problems and all(r.startswith(("file:", "blob:")) for r in requests)
    table = read_verdicts(sheet.verdicts, known=sheet.pictures)
    assert table["verdict"].tolist() == ["", "reject"]
    assert table["note"].tolist() == ["", 'two "lights", really']
