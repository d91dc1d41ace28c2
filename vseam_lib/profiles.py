"""Chapters, their declared parameters, and the profiles that give them values.

A chapter declares its parameters in one cell (``k: int = 10  # heads per set``); a profile is a
YAML file of values for several chapters. Here each name and value is checked against what the
chapters declare, because papermill only logs a name it does not know and runs the defaults.
"""

from __future__ import annotations

import ast
import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import papermill as pm
import yaml
from nbformat import NotebookNode

TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}
PROFILE_KEYS = ("title", "description", "common", "chapters")


class RunnerError(ValueError):
    """A chapter, profile or parameter that cannot be run as asked; the message says what can."""


@dataclass(frozen=True)
class Parameter:
    """One line of a chapter's parameter cell: ``name: type = default  # help``."""

    name: str
    type: str
    default: Any
    help: str


@dataclass(frozen=True)
class Profile:
    """One YAML file of ``profiles/``: the values of every chapter of a run."""

    name: str
    title: str
    description: str = ""
    common: dict[str, Any] = field(default_factory=dict)
    chapters: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_chapter(chapter: str, notebooks: Path) -> NotebookNode:
    """Return ``notebooks/{chapter}.py`` as a notebook with a Python kernel.

    Raises:
        RunnerError: listing the chapters there are.
    """
    path = notebooks / f"{chapter}.py"
    if not path.is_file():
        known = sorted(p.stem for p in notebooks.glob("*.py"))
        raise RunnerError(
            f"unknown chapter {chapter!r}: expected one of {listed(known)} (files of {notebooks}/)"
            + did_you_mean(chapter, known)
        )
    nb = jupytext.read(path)
    nb.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "name": "python3",
    } | dict(nb.metadata.get("kernelspec", {}), language="python")
    return nb


def declared_parameters(nb: NotebookNode, of: str = "notebook") -> dict[str, Parameter]:
    """Return the parameters that the cell tagged ``parameters`` declares, in its order.

    Raises:
        RunnerError: if there is not exactly one such cell, or a line of it has no literal default
            or no type, so that papermill could not describe it.
    """
    cells = [cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise RunnerError(f"{of}: expected one cell tagged 'parameters', found {len(cells)}")
    seen = pm.inspect_notebook(nb)
    found = {}
    for statement in ast.parse(cells[0].source).body:
        line = ast.unparse(statement)
        target = getattr(statement, "target", None)
        if not isinstance(statement, ast.AnnAssign) or not isinstance(target, ast.Name):
            raise RunnerError(f"{of}: expected 'name: type = value  # meaning', got {line!r}")
        try:
            default = ast.literal_eval(statement.value)
        except (ValueError, TypeError) as error:
            raise RunnerError(f"{of}: the default in {line!r} is not a literal value") from error
        if target.id not in seen:
            raise RunnerError(f"{of}: papermill cannot read {line!r}; write it on one line")
        annotation = ast.unparse(statement.annotation)
        found[target.id] = Parameter(target.id, annotation, default, seen[target.id]["help"])
    return found


def load_profile(name: str, profiles: Path) -> Profile:
    """Return the profile of that name, or the one in the YAML file of that path.

    Raises:
        RunnerError: unknown name (the known ones are listed), or not a profile.
    """
    path = Path(name) if name.endswith((".yml", ".yaml")) else profiles / f"{name}.yml"
    if not path.is_file():
        known = sorted(p.stem for p in profiles.glob("*.yml"))
        raise RunnerError(
            f"unknown profile {name!r}: expected one of {listed(known)} (files of {profiles}/), "
            "or the path of a .yml file" + did_you_mean(name, known)
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", path.stem):
        raise RunnerError(
            f"profile {path.stem!r}: its name becomes part of file names and figure labels; "
            "use letters, digits, '-' and '.'"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RunnerError(f"{path}: not YAML: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("title"), str):
        raise RunnerError(f"{path}: expected a mapping with a 'title'; see profiles/tiny-llava.yml")
    for key in data:
        if key not in PROFILE_KEYS:
            raise RunnerError(
                f"{path}: unknown key {key!r}, expected {listed(PROFILE_KEYS)}"
                + did_you_mean(str(key), PROFILE_KEYS)
            )
    common = data.get("common") or {}
    chapters = data.get("chapters") or {}
    if not isinstance(common, dict) or not isinstance(chapters, dict):
        raise RunnerError(f"{path}: expected 'common' and 'chapters' to be mappings")
    chapters = {str(chapter): values or {} for chapter, values in chapters.items()}
    for chapter, values in chapters.items():
        if not isinstance(values, dict):
            raise RunnerError(f"{path}: chapters.{chapter}: expected parameter: value pairs")
    return Profile(path.stem, data["title"], data.get("description") or "", common, chapters)


def check_value(parameter: Parameter, value: Any, where: str) -> Any:
    """Return ``value`` as the declared type (an int is a float, but nothing else is converted).

    Raises:
        RunnerError: naming the parameter, the type expected, and the value with its type.
    """
    options = accepted(parameter.type)
    if value is None and "None" in options:
        return None
    for option in options:
        base, _, inner = option.partition("[")
        if type(value) is not TYPES.get(base):
            continue
        element = TYPES.get(inner.rstrip("]")) if base == "list" else None
        if element is None or all(type(item) is element for item in value):
            return value
    if "float" in options and type(value) is int:
        return float(value)
    hint = ""
    if isinstance(value, str) and "float" in options and as_float(value) is not None:
        hint = f"; YAML reads {value} as text, write {as_float(value)!r}"
    raise RunnerError(
        f"{where}: parameter {parameter.name!r} expects {parameter.type}, "
        f"got {value!r} ({type(value).__name__}){hint}"
    )


def accepted(annotation: str) -> list[str]:
    """Return the types that an annotation admits: ``Optional[int]`` gives ``int``, ``None``."""
    outer, _, inner = annotation.removesuffix("]").partition("[")
    if outer == "Optional":
        return [inner, "None"]
    if outer == "Union":
        return [option.strip() for option in inner.split(",")]
    return [option.strip() for option in annotation.split("|")]


def parse_value(parameter: Parameter, text: str) -> Any:
    """Read a value typed on the command line as the declared type would have it."""
    if parameter.type == "str":
        return text
    if parameter.type == "float" and as_float(text) is not None:
        return as_float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def check_profile(profile: Profile, notebooks: Path) -> dict[str, dict[str, Parameter]]:
    """Return every chapter's declared parameters after checking each name and value of a profile.

    Raises:
        RunnerError: for the first chapter, name or value that does not fit.
    """
    known = {
        chapter: declared_parameters(read_chapter(chapter, notebooks), chapter)
        for chapter in profile.chapters
    }
    for name, value in profile.common.items():
        takers = [parameters[name] for parameters in known.values() if name in parameters]
        if not takers:
            names = sorted({name for parameters in known.values() for name in parameters})
            raise unknown_parameter(name, names, f"profile {profile.name}: common", "any chapter")
        for parameter in takers:
            check_value(parameter, value, f"profile {profile.name}: common")
    for chapter, values in profile.chapters.items():
        where = f"profile {profile.name}: chapters.{chapter}"
        for name, value in values.items():
            if name not in known[chapter]:
                raise unknown_parameter(name, known[chapter], where, chapter)
            check_value(known[chapter][name], value, where)
    return known


def resolve(
    profile: Profile, chapter: str, notebooks: Path, typed: dict[str, str]
) -> tuple[dict[str, Parameter], dict[str, Any]]:
    """Return a chapter's declared parameters and the values that this run sets.

    Args:
        profile: where values come from.
        chapter: a chapter of the profile.
        notebooks: folder of the chapters.
        typed: text of ``-p name value`` pairs; they win over the profile.
    """
    if chapter not in profile.chapters:
        raise RunnerError(
            f"profile {profile.name} does not run chapter {chapter!r}: expected one of "
            f"{listed(profile.chapters)}" + did_you_mean(chapter, profile.chapters)
        )
    known = check_profile(profile, notebooks)[chapter]
    given = {name: value for name, value in profile.common.items() if name in known}
    given |= profile.chapters[chapter]
    for name, text in typed.items():
        if name not in known:
            raise unknown_parameter(name, known, "command line", chapter)
        given[name] = parse_value(known[name], text)
    values = {
        name: check_value(known[name], value, f"{profile.name}/{chapter}")
        for name, value in given.items()
    }
    return known, values


def as_float(text: str) -> float | None:
    """Return the number that a text spells, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def listed(names: Any) -> str:
    """Return names as ``a, b, c``."""
    return ", ".join(names) or "none at all"


def did_you_mean(name: str, known: Any) -> str:
    """Return '; did you mean ...?' when one known name is close, otherwise nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_parameter(name: str, known: Any, where: str, chapter: str) -> RunnerError:
    """Return the error for a parameter name that a chapter does not declare."""
    return RunnerError(
        f"{where}: {chapter} declares no parameter {name!r}, expected one of {listed(known)}"
        + did_you_mean(str(name), known)
    )
