"""The table of verbs, the fast help, and what start-up imports."""

import subprocess
import sys
import tomllib
from pathlib import Path

import asyncclick as click
import pytest

from orca.cli.main import run
from orca.cli.program import make_group
from orca.cli.verbs import GROUPS, VERBS, help_text
from orca.version import VERSION

ROOT = Path(__file__).parents[3]


def imported_by(*args: str) -> set[str]:
    """Modules that `python -m orca ARGS` imports."""
    command = [sys.executable, "-X", "importtime", "-m", "orca", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_every_verb_of_the_table_is_a_command_with_the_same_summary() -> None:
    group = make_group()
    context = click.Context(group)
    for one in VERBS:
        command = group.get_command(context, one.name)
        assert command is not None
        assert command.name == one.name
        assert command.short_help == one.summary
        assert (command.help or "").startswith(one.summary)
    assert group.get_help(context) == help_text().rstrip("\n")


def test_every_verb_is_in_the_help_and_every_line_fits() -> None:
    text = help_text()
    assert {one.group for one in VERBS} == {group for group, _ in GROUPS}
    assert all(f"  {one.name} " in text for one in VERBS)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["help"]])
def test_help_is_answered_without_the_parser(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 0
    assert capsys.readouterr().out == help_text()


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"orca {VERSION}\n"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


@pytest.mark.integration
def test_help_imports_no_parser_and_no_event_loop() -> None:
    found = imported_by("--help")
    assert "orca.cli.verbs" in found
    assert not found & {"trio", "msgspec", "rich", "asyncclick", "typing", "inspect", "re"}


@pytest.mark.integration
@pytest.mark.parametrize("args", [("ps", "--help"), ("ps", "--nonsense"), ("nonsense",), ("completion", "bash")])
def test_parsing_starts_no_event_loop(args: tuple[str, ...]) -> None:
    assert not imported_by(*args) & {"trio", "rich", "h11", "node"}


@pytest.mark.integration
@pytest.mark.parametrize("verb", ["status", "ps", "stats", "version"])
def test_looking_starts_no_event_loop_and_loads_nothing_heavy(verb: str) -> None:
    found = imported_by(verb, "--node", "127.0.0.1:1")
    assert "h11" in found
    assert not found & {"trio", "rich", "trio_websocket", "node", "yaml", "docker", "wasmtime"}


@pytest.mark.parametrize(
    "args",
    [["--help"], *([one.name, "--help"] for one in VERBS)],
    ids=lambda args: args[0],
)
def test_every_help_fits_eighty_columns(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
