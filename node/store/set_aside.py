"""A log that was given up, kept in files that a person can read."""

import os
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from consensus.state.commands import decode_command
from consensus.storage import Entry, EntryKind, LoadedLog, decode_membership
from node.store.directory import sync_directory
from node.store.identity import give_up_founding
from node.store.log_store import FileLogStore
from orca.errors import OrcaError, StoreFullError
from orca.model.units import WallMs

FOLDER: Final = "set-aside"
KEPT_MAX: Final = 8
"""Of older copies than so many only the newest stay."""


class SetAside:
    """Copies `log` into `directory`, then empties it. Its calls block."""

    def __init__(self, log: FileLogStore, directory: Path) -> None:
        self._store = log
        self._directory = directory / FOLDER

    def set_aside(self, at_ms: WallMs) -> str:
        """Write the copy, forget the log, and give the copy's path.

        One JSON document a line: first what the log was, then each entry. The snapshot before them, if there is
        one, is beside it. Raises StoreFullError with the log as it was.
        """
        loaded = self._store.load()
        path = self._directory / f"log-{at_ms}.jsonl"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            if loaded.snapshot is not None:
                _write(path.with_suffix(".snapshot"), iter((loaded.snapshot.payload,)))
            _write(path, _lines(loaded))
            sync_directory(self._directory)
        except OSError as error:
            raise StoreFullError(f"the log cannot be set aside in {path}: {error.strerror or error}") from error
        # A founder with an empty log would be a group of its own again.
        give_up_founding(self._store.environment)
        self._store.reset()
        self._drop_old()
        return str(path)

    def _drop_old(self) -> None:
        for old in sorted(self._directory.glob("log-*.jsonl"))[:-KEPT_MAX]:
            old.with_suffix(".snapshot").unlink(missing_ok=True)
            old.unlink(missing_ok=True)


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _lines(loaded: LoadedLog) -> Iterator[bytes]:
    meta = None if loaded.snapshot is None else loaded.snapshot.meta
    yield _line(
        {
            "hard_state": msgspec.to_builtins(loaded.hard_state),
            "snapshot": msgspec.to_builtins(meta),
            "commit_index": loaded.commit_index,
            "last_index": loaded.last_index,
        }
    )
    for entry in loaded.entries:
        yield _line({"index": entry.index, "term": entry.term, **_content(entry)})


def _content(entry: Entry) -> dict[str, Any]:
    """What it says, as far as it can be read here; bytes in base64 otherwise."""
    if not entry.payload:
        return {"kind": "no-op"}
    try:
        if entry.kind is EntryKind.MEMBERSHIP:
            return {"kind": "membership", "membership": msgspec.to_builtins(decode_membership(entry.payload))}
        return {"kind": "command", "command": msgspec.to_builtins(decode_command(entry.payload))}
    except (ValueError, OrcaError):
        return {"kind": "bytes", "base64": b64encode(entry.payload).decode()}


def _line(document: dict[str, Any]) -> bytes:
    return msgspec.json.encode(document) + b"\n"
