"""What a daemon notes for the guard, and what the next one makes of it."""

import json
from pathlib import Path

import pytest

from node.singletons import guard
from node.singletons.deadlines import Deadlines
from orca.errors import NotAvailableError
from orca.model.ids import AllocationId
from orca.model.units import Instant

A, B = AllocationId("a"), AllocationId("b")


def test_the_next_daemon_finds_what_was_noted_last_and_not_what_is_forgotten(tmp_path: Path) -> None:
    noted = Deadlines(tmp_path / "leases", "", ())
    assert noted.load() == {}
    noted.extend(A, Instant(10.5))
    noted.extend(A, Instant(20.25))
    noted.extend(B, Instant(30.0))
    noted.forget(B)
    noted.forget(B)
    assert Deadlines(tmp_path / "leases", "", ()).load() == {A: 20.25}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot": "another", "until_s": 1.0}', '{"until_s": 1.0}'])
def test_what_is_of_an_earlier_start_of_the_computer_or_cannot_be_read_vouches_for_nothing(
    tmp_path: Path, content: str
) -> None:
    noted = Deadlines(tmp_path, "", ())
    (tmp_path / f"a{guard.SUFFIX}").write_text(content)
    assert noted.load() == {}


def test_a_file_says_which_start_of_the_computer_it_is_of(tmp_path: Path) -> None:
    Deadlines(tmp_path, "", ()).extend(A, Instant(1.0))
    assert json.loads((tmp_path / f"a{guard.SUFFIX}").read_text())["boot"] == guard.boot_id()


def test_a_deadline_that_cannot_be_noted_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    noted = Deadlines(tmp_path / "file" / "leases", "", ())
    with pytest.raises(NotAvailableError, match="the end of a lease cannot be noted"):
        noted.extend(A, Instant(1.0))
    with pytest.raises(NotAvailableError, match="guard"):
        noted.ensure_guard()
