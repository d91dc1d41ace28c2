"""Chapters, profiles and the commands in the prose fit together."""

import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
import yaml

from vseam_lib import profiles

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
PROFILES = sorted((ROOT / "profiles").glob("*.yml"))
PROSE = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]
SHOWN = ["tiny-llava", "tiny-instructblip"]  # runs in the book, the chapters' defaults first
# Chapters of one model belong to every run; one that compares models belongs to the first.
OF_A_MODEL = [path.stem for path in NOTEBOOKS if "\nmodel: str" in path.read_text()]
chapters = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_chapters():
    assert NOTEBOOKS


@chapters
def test_parameters_are_typed_literal_and_explained(path):
    nb = profiles.read_chapter(path.stem, path.parent)
    for parameter in profiles.declared_parameters(nb, path.stem).values():
        assert parameter.help, f"{parameter.name}: say what it means in a comment"
        profiles.check_value(parameter, parameter.default, f"{path.stem}: default")


@chapters
def test_a_chapter_runs_under_plain_papermill(path):
    nb = jupytext.read(path)
    kernel = nb.metadata.kernelspec
    assert (kernel.name, kernel.get("language")) == ("python3", "python"), "papermill needs both"
    assert nb.cells[0].source.startswith("# "), "the first cell is the title"


@chapters
def test_figures_have_a_label_of_their_run_a_caption_and_a_text_for_screen_readers(path):
    for cell in jupytext.read(path).cells:
        shown = cell.metadata.get("mystnb", {})
        figure = shown.get("figure", {})
        if "name" in figure:
            assert figure["name"].startswith("{run}-fig-"), figure["name"]
        if figure:
            assert figure.get("caption") and shown.get("image", {}).get("alt"), figure


@chapters
def test_no_path_of_one_machine_is_in_a_chapter(path):
    assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text())


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profiles_set_only_declared_parameters_to_values_of_their_type(path):
    profile = profiles.load_profile(path.stem, path.parent)
    known = profiles.check_profile(profile, ROOT / "notebooks")
    run = list(known)
    assert run in ([chapter.stem for chapter in NOTEBOOKS], OF_A_MODEL), "chapters to run"


def test_the_shown_run_is_the_chapters_defaults():
    profile = profiles.load_profile(SHOWN[0], ROOT / "profiles")
    for chapter, declared in profiles.check_profile(profile, ROOT / "notebooks").items():
        for name, value in (profile.common | profile.chapters[chapter]).items():
            if name in declared:
                assert declared[name].default == value, f"{chapter}: {name}"


def test_the_table_of_contents_shows_every_chapter_of_the_shown_runs():
    toc = (ROOT / "_toc.yml").read_text()
    for run, wanted in zip(SHOWN, ([path.stem for path in NOTEBOOKS], OF_A_MODEL), strict=True):
        assert re.findall(rf"file: runs/{run}/(\S+)", toc) == wanted


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_files_that_the_prose_names_exist(path):
    text = path.read_text()
    for name in re.findall(
        r"\b(?:notebooks|profiles|vseam_lib|tests)/[\w./-]*\w\.(?:py|yml)", text
    ):
        if Path(name).stem != "mine":
            assert (ROOT / name).is_file(), f"{path.name} names {name}"
    for run, chapter in re.findall(r"book/runs/([\w.-]+)/(\w+)\.ipynb", text):
        assert (ROOT / f"profiles/{run}.yml").is_file()
        assert (ROOT / f"notebooks/{chapter}.py").is_file()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"^make ([a-z]+)", text, re.MULTILINE):
        assert target in targets


def test_runner_commands_in_the_prose_name_chapters_profiles_and_parameters():
    found = 0
    for path in PROSE:
        for line in re.findall(r"^python -m vseam_lib\.runner .*$", path.read_text(), re.MULTILINE):
            words = line.split()[3:]
            profile = profiles.load_profile(words[words.index("--profile") + 1], ROOT / "profiles")
            typed = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
            profiles.resolve(profile, words[0], ROOT / "notebooks", typed)
            found += 1
    assert found


def test_papermill_alone_lists_the_parameters_of_a_chapter():
    bin = Path(sys.executable).parent
    notebook = NOTEBOOKS[-1]
    ipynb = subprocess.run(
        [bin / "jupytext", "--to", "ipynb", "-o", "-", notebook], capture_output=True, check=True
    )
    listed = subprocess.run(
        [bin / "papermill", "--help-notebook", "-"],
        input=ipynb.stdout,
        capture_output=True,
        check=True,
    ).stdout.decode()
    nb = profiles.read_chapter(notebook.stem, notebook.parent)
    for parameter in profiles.declared_parameters(nb).values():
        assert f"{parameter.name}: " in listed
        assert parameter.help in listed


def test_every_module_is_on_the_library_page():
    page = (ROOT / "book/api.md").read_text()
    documented = set(re.findall(r"automodule:: (\S+)", page))
    files = {
        path.parent if path.stem in ("__init__", "__main__") else path.with_suffix("")
        for path in (ROOT / "vseam_lib").rglob("*.py")
        if path.name != "__init__.py" or "\ndef " in path.read_text()
    }
    modules = {".".join(path.relative_to(ROOT).parts) for path in files}
    assert documented == modules


def test_environment_file_names_no_machine():
    for name in ("environment.yml", "constraints.txt", "_config.yml"):
        text = (ROOT / name).read_text()
        assert "file:" not in text and "/opt/" not in text
        if name.endswith(".yml"):
            yaml.safe_load(text)
