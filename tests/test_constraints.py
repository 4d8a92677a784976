"""The pinned dependencies are complete, hashed, and free of addresses."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import tidy
from tests.constraints import ALL, NODE, parse_pins

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD: list[str] = PROJECT["build-system"]["requires"]
RUN: list[str] = PROJECT["project"]["dependencies"]
DEV: list[str] = PROJECT["project"]["optional-dependencies"]["dev"]


def pins_of(path: Path) -> dict[str, tuple[str, int]]:
    return parse_pins((ROOT / path).read_text())


@pytest.mark.parametrize(
    ("path", "requirements"), [(ALL, [*BUILD, *RUN, *DEV]), (NODE, [*BUILD, *RUN])], ids=["checks", "node"]
)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(path: Path, requirements: list[str]) -> None:
    pins = pins_of(path)
    for text in requirements:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{path} does not pin {name}: run python -m tests --constraints"
        assert requirement.specifier.contains(pins[name][0]), f"{path} pins {name} at {pins[name][0]}, not {text}"


@pytest.mark.parametrize("path", [ALL, NODE], ids=["checks", "node"])
def test_every_pin_has_a_hash(path: Path) -> None:
    pins = pins_of(path)
    assert pins
    assert [name for name, (_, hashes) in pins.items() if hashes == 0] == []


def test_a_node_and_the_checks_use_the_same_versions() -> None:
    everything = pins_of(ALL)
    assert {name: everything.get(name) for name in pins_of(NODE)} == pins_of(NODE)


def imported(module: tidy.Module) -> Iterator[str]:
    """First words of what `module` imports from outside the repository and the standard library."""
    for node in ast.walk(module.tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in tidy.PACKAGES:
                yield top


def test_every_package_that_is_imported_is_declared() -> None:
    """One that only came along with another one would vanish with it."""
    owners = packages_distributions()
    run = {canonicalize_name(Requirement(text).name) for text in RUN}
    dev = {canonicalize_name(Requirement(text).name) for text in DEV}
    for module in tidy.read_modules(ROOT):
        is_measuring = module.is_test or module.path.startswith(("simulations/subjects/", "simulations/bench/"))
        allowed = run | dev if is_measuring else run
        for name in imported(module):
            found = {canonicalize_name(owner) for owner in owners.get(name, [name])}
            assert found & allowed, f"{module.path} imports {name}: declare {sorted(found)} in pyproject.toml"


def test_every_dependency_of_a_node_is_imported() -> None:
    owners = packages_distributions()
    names = {name for module in tidy.read_modules(ROOT) if not module.is_test for name in imported(module)}
    used = {canonicalize_name(owner) for name in names for owner in owners.get(name, [name])}
    declared = {canonicalize_name(Requirement(text).name) for text in RUN}
    by_others = {"tzdata"}  # zoneinfo looks for it by itself
    assert sorted(declared - used - by_others) == [], "declared in pyproject.toml and imported by nobody"


@pytest.mark.parametrize(
    "line", ["--index-url https://somewhere.example/simple", "-e .", "trio", "trio>=0.30", "--hash=sha256:00"]
)
def test_a_line_that_is_no_pin_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        parse_pins(line)
