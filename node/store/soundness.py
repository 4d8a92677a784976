"""Whether the files of a store are what they should be, checked before LMDB maps them."""

import os
import stat
from pathlib import Path

import msgspec
from lmdb import verify

from orca.errors import StoreCorruptError

SCHEMA_VERSION = 2
"""1 kept the log of Raft in LMDB, 2 in a file beside it; an older program would take that for an empty log."""
_FORMAT = "orca-store"
WAY_OUT = (
    "stop here and keep the file; restore the data directory from a backup, or move it aside "
    "and let the node join as a new one"
)


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What the bytes of a store mean; `version` counts up with each incompatible change."""

    format: str
    version: int


def encode_schema() -> bytes:
    """The record that this program writes into a new store."""
    return msgspec.json.encode(Schema(format=_FORMAT, version=SCHEMA_VERSION))


def check_schema(record: bytes | None, data_path: Path) -> None:
    """Raises `StoreCorruptError` unless `record` is of a schema that this program can read."""
    if record is None:
        raise StoreCorruptError(f"{data_path} is an LMDB file, but not an Orca store: {WAY_OUT}")
    try:
        schema = msgspec.json.decode(record, type=Schema)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorruptError(f"{data_path} has an unreadable schema record ({error}): {WAY_OUT}") from error
    if schema.format != _FORMAT or schema.version < 1:
        raise StoreCorruptError(f"{data_path} is a store of {schema.format!r}, not an Orca store: {WAY_OUT}")
    if schema.version > SCHEMA_VERSION:
        raise StoreCorruptError(
            f"{data_path} has schema version {schema.version}, and this program reads up to {SCHEMA_VERSION}: "
            "it was written by a newer version of Orca; start that version"
        )


def check_files(store_path: Path) -> Path:
    """The path of `data.mdb`, after every page of it was found sound (about 3 s a GiB in use).

    Also makes the files private. Raises `StoreCorruptError`.
    """
    data_path = store_path / "data.mdb"
    try:
        found = data_path.lstat()
    except OSError as error:
        raise StoreCorruptError(f"{data_path} cannot be read ({error.strerror}): {WAY_OUT}") from error
    if not stat.S_ISREG(found.st_mode):
        raise StoreCorruptError(f"{data_path} is not a regular file: {WAY_OUT}")
    if found.st_uid != os.geteuid():
        raise StoreCorruptError(
            f"{data_path} belongs to user {found.st_uid}, this process runs as {os.geteuid()}; change its owner"
        )
    if found.st_size == 0:
        raise StoreCorruptError(f"{data_path} is empty; an Orca store never is: {WAY_OUT}")
    try:
        findings: list[str] = verify.verify(os.fspath(data_path), subdir=False)  # type: ignore[no-untyped-call]
    except verify.VerifyError as error:
        raise StoreCorruptError(f"{data_path} is not a whole LMDB file ({error}): {WAY_OUT}") from error
    except OSError as error:
        raise StoreCorruptError(f"{data_path} cannot be read ({error.strerror}): {WAY_OUT}") from error
    if findings:
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        raise StoreCorruptError(f"{data_path} is damaged ({findings[0]}{more}): {WAY_OUT}")
    make_files_private(store_path)
    return data_path


def make_files_private(store_path: Path) -> None:
    """0700 for the directory, 0600 for the files in it."""
    store_path.chmod(0o700)
    for name in ("data.mdb", "lock.mdb"):
        path = store_path / name
        if path.exists() and stat.S_IMODE(path.stat().st_mode) != 0o600:
            path.chmod(0o600)
