"""`python -m tests` and the Docker rule cannot be green by accident."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tests.__main__ as runner
from tests.__main__ import Counts, Options, Stage

ROOT = Path(__file__).resolve().parent.parent
PASSES = "def test_it():\n    pass\n"
FAILS = "def test_it():\n    assert False\n"
NEEDS_DOCKER = "import pytest\n\n@pytest.mark.docker\ndef test_it():\n    pass\n\ndef test_other():\n    pass\n"


def run_pytest(folder: Path, text: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Pytest with our hooks, on one file of its own."""
    (folder / "test_one.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", f"--rootdir={folder}", "-c", os.devnull]
    plain = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [*command, *options, str(folder)],
        cwd=ROOT,
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.integration
def test_without_an_engine_docker_tests_are_skipped_and_named(tmp_path: Path) -> None:
    ended = run_pytest(tmp_path, NEEDS_DOCKER, DOCKER_HOST=f"unix://{tmp_path}/absent.sock")
    assert ended.returncode == 0, ended.stdout
    assert "1 skipped, no Docker engine answers" in ended.stdout
    assert "\n  test_one.py::test_it\n" in ended.stdout


@pytest.mark.integration
def test_in_ci_a_docker_test_that_is_skipped_has_failed(tmp_path: Path) -> None:
    ended = run_pytest(tmp_path, NEEDS_DOCKER, DOCKER_HOST=f"unix://{tmp_path}/absent.sock", CI="true")
    assert ended.returncode == 1, ended.stdout
    assert "with CI=true it has to run (Skipped: no Docker engine answers" in ended.stdout


@pytest.mark.integration
def test_a_second_try_is_told_with_what_failed_in_the_first(tmp_path: Path) -> None:
    text = (
        "import pytest\n\ntried = []\n\n@pytest.mark.flaky(reruns=1)\ndef test_it():\n"
        "    tried.append(1)\n    assert len(tried) == 2, 'too slow once'\n"
    )
    ended = run_pytest(tmp_path, text)
    assert ended.returncode == 0, ended.stdout
    assert "first try of test_one.py::test_it" in ended.stdout
    assert "too slow once" in ended.stdout


@pytest.mark.integration
@pytest.mark.parametrize(("mark", "code"), [("docker", 1), ("slow", 0)])
def test_in_ci_a_docker_test_may_not_skip_itself_either(tmp_path: Path, mark: str, code: int) -> None:
    text = f"import pytest\n\n@pytest.mark.{mark}\ndef test_it():\n    pytest.skip('no luck')\n"
    (tmp_path / "conftest.py").write_text("import tests.conftest\n\ntests.conftest.docker_refusal = lambda: ''\n")
    ended = run_pytest(tmp_path, text, CI="true")
    assert ended.returncode == code, ended.stdout
    assert "no luck" in ended.stdout


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (PASSES, (), Counts(passed=1)),
        (FAILS, (), Counts(failed=1)),
        ("1 / 0\n", (), Counts(errors=1)),
        (PASSES, ("-k", "nothing"), Counts()),
        (PASSES + "def test_two():\n    import pytest\n    pytest.skip('why')\n", (), Counts(passed=1, skipped=1)),
    ],
    ids=["passed", "failed", "broken", "none", "skipped"],
)
def test_the_counts_are_those_of_pytest(tmp_path: Path, text: str, options: tuple[str, ...], expected: Counts) -> None:
    report = tmp_path / "report.xml"
    run_pytest(tmp_path, text, f"--junitxml={report}", *options)
    assert runner.read_report(report) == expected


@pytest.mark.integration
def test_a_run_in_which_no_test_is_selected_has_failed(capfd: pytest.CaptureFixture[str]) -> None:
    options = Options(expression="no_test_is_called_this", only=["tests"], extra=["tests/test_runner.py"])
    assert runner.run_all(options) == 1
    assert " 1 errors in " in capfd.readouterr().out.splitlines()[-1]


def test_a_report_that_was_never_written_counts_nothing(tmp_path: Path) -> None:
    assert not runner.read_report(tmp_path / "absent.xml").is_good


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (Counts(passed=123, skipped=4), "123 passed, 4 skipped in 61.2s"),
        (Counts(passed=3, failed=1), "1 failed, 3 passed in 61.2s"),
        (Counts(), "no tests ran in 61.2s"),
    ],
)
def test_the_summary_has_the_form_of_pytest(counts: Counts, line: str) -> None:
    assert runner.summary_line(counts, 61.2).strip("= ") == line


@pytest.mark.parametrize(
    "counts", [Counts(), Counts(skipped=3), Counts(passed=1, failed=1), Counts(passed=1, errors=1)]
)
def test_only_a_run_that_passed_something_and_failed_nothing_is_good(counts: Counts) -> None:
    assert not counts.is_good


def test_a_stage_whose_tool_fails_or_is_absent_has_failed(capfd: pytest.CaptureFixture[str]) -> None:
    assert runner.run_static(Stage("x", "fails", (sys.executable, "-c", "raise SystemExit(3)"))).counts == Counts(
        failed=1
    )
    assert runner.run_static(Stage("x", "absent", ("/nowhere/tool",))).counts == Counts(failed=1)
    assert runner.run_static(Stage("x", "works", (sys.executable, "-c", ""))).counts == Counts(passed=1)
    assert "is not there" in capfd.readouterr().out


def test_fast_leaves_out_what_is_slow_and_extra_arguments_reach_pytest(tmp_path: Path) -> None:
    parsed, extra = runner.parse_arguments(["--fast", "-k", "vote", "--", "-x", "--lf"])
    stage = runner.test_stage(Options(fast=parsed.fast, expression=parsed.expression, extra=extra), tmp_path / "r.xml")
    assert stage.command[-6:] == ("-m", runner.FAST, "-k", "vote", "-x", "--lf")
