import json
from pathlib import Path

import pytest

from consensus.state.commands import AdmitNode, encode_command
from consensus.storage import Entry, EntryKind, LoadedLog, LogWrite, Membership, encode_membership
from node.store.environment import Environment
from node.store.identity import read_identity, start_identity
from node.store.log_store import FileLogStore
from node.store.set_aside import FOLDER, KEPT_MAX, SetAside
from orca.errors import StoreFullError
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import WallMs
from tests.consensus.intent import CountingIds
from tests.contracts.log_store import snapshot_at

NODE = NodeId("n-a")


def entry(index: int, payload: bytes, kind: EntryKind = EntryKind.NORMAL) -> Entry:
    return Entry(term=Term(2), index=LogIndex(index), payload=payload, kind=kind)


def fill(environment: Environment, store: FileLogStore) -> None:
    start_identity(environment, CountingIds(), "a")
    store.write(LogWrite(entries=(entry(1, b""), entry(2, b"")), snapshot=None))
    store.write(LogWrite(snapshot=snapshot_at(2, 2)))
    store.write(
        LogWrite(
            entries=(
                entry(3, encode_membership(Membership(voters=(NODE,))), EntryKind.MEMBERSHIP),
                entry(4, encode_command(AdmitNode(node=NODE, name="a", at_ms=WallMs(7)))),
                entry(5, b"of another release"),
                entry(6, b""),
            )
        )
    )


def test_a_copy_can_be_read_by_people_and_the_node_waits_to_be_taken_in(
    environment: Environment, store: FileLogStore, tmp_path: Path
) -> None:
    fill(environment, store)
    path = Path(SetAside(store, tmp_path).set_aside(WallMs(5)))
    meta, *entries = map(json.loads, path.read_text().splitlines())
    assert (meta["last_index"], meta["snapshot"]["last_index"]) == (6, 2)
    assert [one["kind"] for one in entries] == ["membership", "command", "bytes", "no-op"]
    assert entries[1]["command"]["name"] == "a"
    assert path.with_suffix(".snapshot").read_bytes() == b"state"
    assert path.stat().st_mode & 0o077 == 0
    assert store.load() == LoadedLog()
    identity = read_identity(environment)
    assert identity is not None
    assert not identity.is_founder


def test_a_copy_that_cannot_be_written_leaves_the_log_as_it_was(
    environment: Environment, store: FileLogStore, tmp_path: Path
) -> None:
    fill(environment, store)
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(StoreFullError, match="cannot be set aside"):
        SetAside(store, tmp_path).set_aside(WallMs(5))
    assert store.load().last_index == 6


def test_only_the_newest_copies_stay(environment: Environment, store: FileLogStore, tmp_path: Path) -> None:
    aside = SetAside(store, tmp_path)
    for number in range(KEPT_MAX + 3):
        fill(environment, store)
        aside.set_aside(WallMs(1000 + number))
    left = sorted(path.name for path in (tmp_path / FOLDER).glob("*.jsonl"))
    assert left[0] == "log-1003.jsonl"
    assert len(left) == KEPT_MAX
    assert len(list((tmp_path / FOLDER).iterdir())) == 2 * KEPT_MAX
