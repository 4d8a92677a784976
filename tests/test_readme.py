"""The README's commands are those that CI runs, and say what is true."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
CI = ROOT / ".ci" / "run"


def commands() -> list[str]:
    """The one-line commands in the README's shell blocks that start from nothing."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("python3 -m venv")]


def test_the_readme_has_one_command_for_the_demo_and_one_for_the_tests() -> None:
    assert [command.rpartition(" && ")[2] for command in commands()] == [
        ".venv/bin/orca demo",
        ".venv/bin/python -m tests",
    ]


def test_ci_ends_with_exactly_the_test_command_of_the_readme() -> None:
    assert CI.read_text().splitlines()[-1] == commands()[1]


def test_ci_is_an_executable_bash_script_without_mistakes_of_syntax() -> None:
    assert os.access(CI, os.X_OK)
    assert CI.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", str(CI)], check=True)


def test_every_file_that_a_command_of_the_readme_names_exists() -> None:
    named = {word for command in commands() for word in command.split() if word.startswith(".ci/")}
    assert named == {".ci/constraints.txt", ".ci/constraints-node.txt"}
    assert all((ROOT / name).is_file() for name in named)


def test_the_readme_shows_every_folder_of_the_top_level() -> None:
    shown = set(re.findall(r"^\| `(\w+)/`", README, flags=re.MULTILINE))
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert shown == folders
