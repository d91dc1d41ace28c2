"""pyproject.toml, environment.yml and constraints.txt describe one environment."""

import importlib.metadata
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in (
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().split()
        if "==" in line and not line.startswith("#")
    )
}
EVERYTHING = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]


def conda_pip_lines() -> list[str]:
    return next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))


def test_every_requirement_is_pinned_to_a_version_that_it_allows():
    for line in EVERYTHING:
        requirement = Requirement(line)
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{line}: no pin in constraints.txt"
        assert pin in requirement.specifier, f"{line}: constraints.txt pins {pin}"


def test_constraints_are_exact_pins_in_order_without_duplicates():
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+]+", line) for line in lines)
    assert lines == sorted(lines, key=str.lower)
    assert len(PINS) == len(lines)


def test_conda_users_get_the_requirements_of_pyproject():
    wanted = {
        str(Requirement(line))
        for extra in ("book", "test", "editing")
        for line in [*PROJECT["dependencies"], *EXTRAS[extra]]
    }
    lines = conda_pip_lines()
    options = [line for line in lines if line.startswith("-")]
    assert options == ["-c constraints.txt", "-e ."]
    assert {str(Requirement(line)) for line in lines if line not in options} == wanted


def test_conda_python_is_one_that_the_package_accepts():
    python = next(entry for entry in CONDA["dependencies"] if str(entry).startswith("python"))
    version = python.removeprefix("python=")
    assert version in Requirement(f"python{PROJECT['requires-python']}").specifier
    assert CONDA["channels"] == ["conda-forge"]


def test_torch_and_torchvision_are_a_matching_pair():
    requires = importlib.metadata.requires("torchvision") or []
    installed = Version(importlib.metadata.version("torchvision"))
    if Version(installed.public) != PINS["torchvision"]:
        pytest.skip(f"torchvision {installed} is installed, not the pinned {PINS['torchvision']}")
    torch = next(r for r in map(Requirement, requires) if r.name == "torch")
    assert PINS["torch"] in torch.specifier


def test_every_extra_is_one_that_the_makefile_or_the_readme_names():
    text = (ROOT / "Makefile").read_text() + (ROOT / "README.md").read_text()
    for extra in EXTRAS:
        assert re.search(rf"\[[\w,]*{extra}[\w,]*\]", text), f"nothing installs extra {extra!r}"


def test_every_data_file_of_the_package_is_declared():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["vseam_lib"]
    package = ROOT / "vseam_lib"
    data = [p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert data
    for path in data:
        name = str(path.relative_to(package))
        assert any(fnmatch(name, pattern) for pattern in patterns), f"{name}: not packaged"
