"""The repository keeps its house rules, and each rule finds what it is there to find."""

import importlib
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from orca import errors
from tests import tidy
from tests.tidy import Module

ROOT = Path(__file__).resolve().parent.parent
Rule = Callable[[Module], Iterator[str]]
RULES: tuple[Rule, ...] = (
    tidy.long_modules,
    tidy.long_functions,
    tidy.missing_docstrings,
    tidy.vague_names,
    tidy.impure_calls,
    tidy.stray_awaits,
    tidy.bare_set_iterations,
    tidy.sleeps,
    tidy.empty_tests,
)
NAMED_TEXT = frozenset({".md", ".toml", ".txt", ".py", ".yaml", ".yml", ".html", ".css", ".js", ".wat", ""})


@cache
def all_modules() -> tuple[Module, ...]:
    return tuple(tidy.read_modules(ROOT))


def entry_points() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [target.partition(":")[0] for target in project["scripts"].values()]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_house_rule(rule: Rule) -> None:
    findings = [finding for module in all_modules() for finding in rule(module)]
    assert not findings, "\n" + "\n".join(findings)


def test_every_module_is_used_by_another_one_or_is_an_entry_point() -> None:
    readme = (ROOT / "README.md").read_text()
    findings = list(tidy.orphans(all_modules(), entry_points(), [readme]))
    assert not findings, "\n" + "\n".join(findings)


def test_no_file_names_a_registry_or_a_machine_or_leaves_work_for_later() -> None:
    findings: list[str] = []
    places = [ROOT / name for name in sorted(tidy.TOP_LEVEL)]
    places += [ROOT / ".ci", ROOT / ".github", ROOT / ".gitignore", ROOT / ".pre-commit-config.yaml"]
    for place in places:
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and file.suffix in NAMED_TEXT and "__pycache__" not in file.parts:
                findings += tidy.forbidden_words(file.relative_to(ROOT).as_posix(), file.read_text())
    assert not findings, "\n" + "\n".join(findings)


def test_the_top_level_holds_only_what_belongs_there() -> None:
    assert list(tidy.wrong_top_level(path.name for path in ROOT.iterdir())) == []


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {ROOT / module.path for module in all_modules() if module.is_test}
    missing = sorted({str(file.parent) for file in folders if not (file.parent / "__init__.py").exists()})
    assert not missing, f"add an empty __init__.py, or two test files of one name collide: {missing}"


def test_every_entry_point_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for command, target in project["scripts"].items():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function, None)), f"{command} = {target} is not there"


def test_every_error_has_a_code_of_its_own() -> None:
    """Codes go to API bodies, logs and tests: two classes with one code cannot be told apart."""
    every = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.OrcaError)
    ]
    assert len(every) > 10
    owners: dict[str, str] = {}
    for error in every:
        assert "code" in vars(error), f"{error.__name__} inherits the code {error.code!r}: give it one of its own"
        assert error.code not in owners, f"{error.__name__} and {owners[error.code]} share the code {error.code!r}"
        owners[error.code] = error.__name__
        assert 400 <= error.http_status < 600
        assert 1 <= error.exit_code < 126, f"{error.__name__}: shells give codes from 126 on a meaning"


BREACHES: tuple[tuple[Rule, str, str], ...] = (
    (tidy.long_modules, "orca/long.py", "x = 1\n" * 501),
    (tidy.long_functions, "orca/long.py", "def f():\n" + "    x = 1\n" * 70),
    (tidy.missing_docstrings, "orca/mute.py", "x = 1\n"),
    (tidy.missing_docstrings, "node/mute/__init__.py", "x = 1\n"),
    (tidy.vague_names, "node/proxy/utils.py", ""),
    (tidy.impure_calls, "gossip/swim.py", "def f():\n    print('here')\n"),
    (tidy.impure_calls, "orca/config.py", "text = open('x').read()\n"),
    (tidy.stray_awaits, "consensus/replica.py", "async def f(x):\n    await x\n"),
    (tidy.stray_awaits, "orca/specs/document.py", "async def f(x):\n    async with x:\n        pass\n"),
    (tidy.stray_awaits, "node/proxy/routes.py", "async def f(x):\n    async for _ in x:\n        pass\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "for x in {'a', 'b'}:\n    pass\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a: set[str]):\n    return [x for x in a]\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a: set[str] | None):\n    return list(a)\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a):\n    b = set(a)\n    return tuple(b)\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a):\n    b = {x for x in a} - {1}\n    return [*b]\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a: frozenset[str]):\n    return ','.join(a)\n"),
    (
        tidy.bare_set_iterations,
        "consensus/raft/machine.py",
        "class M:\n    def f(self):\n        self.a: set[str] = set()\n        return self.a.pop()\n",
    ),
    (tidy.sleeps, "tests/node/test_x.py", "import time\ntime.sleep(1)\n"),
    (tidy.sleeps, "tests/node/waiting.py", "from time import sleep\n"),
    (tidy.empty_tests, "tests/node/test_x.py", "x = 1\n"),
)


@pytest.mark.parametrize(("rule", "path", "text"), BREACHES)
def test_a_breach_is_found(rule: Rule, path: str, text: str) -> None:
    assert len(list(rule(Module(path, text)))) == 1


HARMLESS: tuple[tuple[Rule, str, str], ...] = (
    (tidy.long_functions, "orca/long.py", "def f():\n" + "    x = 1\n" * 69),
    (tidy.missing_docstrings, "orca/cli/__init__.py", ""),
    (tidy.impure_calls, "orca/cli/render.py", "print('a table')\n"),
    (tidy.impure_calls, "gossip/driver.py", "print('io')\n"),
    (tidy.stray_awaits, "gossip/driver.py", "async def f(x):\n    await x\n"),
    (tidy.stray_awaits, "node/api/server.py", "async def f(x):\n    await x\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a: set[str]):\n    return sorted(x for x in a)\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a: set[str]):\n    for x in sorted(a):\n        pass\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a: set[str]):\n    return any(x for x in a)\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a: dict[str, int]):\n    return list(a)\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a: set[str]):\n    b = sorted(a)\n    return list(b)\n"),
    (tidy.bare_set_iterations, "gossip/swim.py", "def f(a: int, b: int):\n    return list(range(a - b))\n"),
    (tidy.bare_set_iterations, "node/agent.py", "for x in {'a', 'b'}:\n    pass\n"),
    (tidy.sleeps, "tests/node/test_x.py", "import time\ntime.monotonic()\n"),
    (tidy.empty_tests, "tests/node/test_x.py", "async def test_it():\n    pass\n"),
)


@pytest.mark.parametrize(("rule", "path", "text"), HARMLESS)
def test_what_is_allowed_is_not_found(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module(path, text))) == []


def test_a_module_that_only_a_test_imports_is_an_orphan() -> None:
    modules = [
        Module("orca/__main__.py", "from orca.cli import main\nfrom orca import used\n"),
        Module("orca/cli/__init__.py", ""),
        Module("orca/cli/main.py", "WORKER = 'node.worker'\n"),
        Module("orca/used.py", ""),
        Module("orca/left.py", ""),
        Module("simulations/bench/idle.py", 'if __name__ == "__main__":\n    pass\n'),
        Module("node/worker.py", "from . import near\n"),
        Module("node/near.py", ""),
        Module("tests/test_left.py", "import orca.left\nfrom tests.fakes import clock\n"),
        Module("tests/fakes/clock.py", ""),
        Module("tests/fakes/nobody.py", ""),
    ]
    found = [finding.partition(":")[0] for finding in tidy.orphans(modules, ["orca.cli.main"])]
    assert found == ["orca/left.py", "tests/fakes/nobody.py"]


def test_forbidden_words_are_found_where_they_stand() -> None:
    text = "fine\nindex = https://" + "pypi" + ".org/simple\n"
    assert [finding.partition(" ")[0] for finding in tidy.forbidden_words("a.txt", text)] == ["a.txt:2:"]


def test_the_top_level_rule_finds_strangers_and_gaps() -> None:
    names = [*sorted(tidy.TOP_LEVEL - {"gossip"}), "docs", ".git", "orca.egg-info"]
    assert [finding.partition(":")[0] for finding in tidy.wrong_top_level(names)] == ["docs", "gossip"]


def test_what_breaks_is_shown_by_tests_that_exist() -> None:
    import re

    import tests.cluster

    table = tests.cluster.__doc__ or ""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", table)
    assert len(named) == table.count("\n- ")
    for path, name in named:
        assert f"def {name}(" in (ROOT / "tests" / path).read_text(), f"{path} has no {name}"
