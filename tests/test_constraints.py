"""The pinned dependencies are complete, hashed, and free of addresses."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


@pytest.mark.parametrize(
    "line", ["--index-url https://somewhere.example/simple", "-e .", "trio", "trio>=0.30", "--hash=sha256:00"]
)
def test_a_line_that_is_no_pin_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        parse_pins(line)
