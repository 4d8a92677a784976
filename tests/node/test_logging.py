"""What the node writes to its log when something breaks."""

import json

import pytest
import structlog

from node.logging import configure_logging
from orca.config import LogFormat

SECRET = "hunter2-in-a-local-variable"


def fail() -> None:
    secret = SECRET
    raise RuntimeError(f"{len(secret)} is no length")


def logged_failure(how: LogFormat, capsys: pytest.CaptureFixture[str]) -> str:
    before = structlog.get_config()
    configure_logging(how)
    try:
        fail()
    except RuntimeError:
        structlog.get_logger("test").exception("it broke")
    finally:
        structlog.configure(**before)
    return capsys.readouterr().err


@pytest.mark.parametrize("how", list(LogFormat))
def test_a_traceback_says_where_and_why_and_shows_no_local_variable(
    how: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    text = logged_failure(how, capsys)
    assert "it broke" in text
    assert "RuntimeError" in text
    assert "27 is no length" in text
    assert "fail" in text, "the function"
    assert SECRET not in text


def test_a_traceback_in_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = logged_failure(LogFormat.JSON, capsys).splitlines()
    assert json.loads(line)["exception"][0]["exc_value"] == "27 is no length"
