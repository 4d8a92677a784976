"""A build context as a tar stream, without anything that `.dockerignore` leaves out.

Only names and sizes are held in memory; contents are read a piece at a time in a
worker thread, as fast as the receiver takes them.
"""

import os
import stat
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

import trio

from orca.commands.ignore_rules import IgnoreRules
from orca.errors import InvalidRequestError, Problem

_PIECE_BYTES: Final = 1 << 18
_BLOCK_BYTES: Final = 512
_HEADERS_AT_ONCE: Final = 64


def list_context(root: Path, dockerfile: str) -> list[tuple[str, os.stat_result]]:
    """Relative path and status of every entry to send, parents first, in a stable order.

    The Dockerfile is always among them, the builder needs it. Raises
    InvalidRequestError when the directory, the Dockerfile or `.dockerignore` cannot
    be used. Blocks: call it in a thread.
    """
    if not root.is_dir():
        raise InvalidRequestError(f"build context {root} is no directory")
    if not (root / dockerfile).is_file():
        raise InvalidRequestError(f"{root / dockerfile} does not exist", hint="name it with build.dockerfile")
    rules = _read_rules(root)
    kept: list[tuple[str, os.stat_result]] = []
    pending = [""]
    while pending:
        parent = pending.pop()
        try:
            with os.scandir(root / parent) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise InvalidRequestError(f"cannot read {root / parent}: {error.strerror}") from error
        for entry in found:
            path = f"{parent}/{entry.name}" if parent else entry.name
            is_directory = entry.is_dir(follow_symlinks=False)
            is_out = rules.leaves_out(path) and path != dockerfile
            holds_dockerfile = dockerfile.startswith(path + "/")
            if is_directory and (not is_out or rules.can_bring_back or holds_dockerfile):
                pending.append(path)
            if not is_out or holds_dockerfile:
                kept.append((path, entry.stat(follow_symlinks=False)))
    return sorted(kept, key=lambda item: item[0].split("/"))


def _read_rules(root: Path) -> IgnoreRules:
    path = root / ".dockerignore"
    try:
        return IgnoreRules(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return IgnoreRules("")
    except (OSError, ValueError) as error:
        problem = Problem(message=str(error), file=str(path))
        raise InvalidRequestError(f"{path} cannot be used: {error}", problems=(problem,)) from error


def _header(root: Path, path: str, status: os.stat_result) -> bytes | None:
    """The tar header of one entry; None for sockets, pipes and devices, which no image needs."""
    info = tarfile.TarInfo(path)
    info.mode = stat.S_IMODE(status.st_mode)
    info.mtime = int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        info.type = tarfile.SYMTYPE
        info.linkname = str((root / path).readlink())
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
    else:
        return None
    return info.tobuf(tarfile.PAX_FORMAT)


async def context_chunks(root: Path, dockerfile: str) -> AsyncIterator[bytes]:
    """The tar stream of the context at `root`; raises as `list_context`, and when a file vanishes or shrinks."""
    pending = bytearray()
    for path, status in await trio.to_thread.run_sync(list_context, root, dockerfile):
        header = _header(root, path, status)
        if header is None:
            continue
        pending += header
        if stat.S_ISREG(status.st_mode) and status.st_size:
            yield bytes(pending)
            pending.clear()
            file = await trio.to_thread.run_sync(_open, root / path)
            with file:
                left = status.st_size
                while left:
                    piece = await trio.to_thread.run_sync(file.read, min(left, _PIECE_BYTES))
                    if not piece:
                        raise InvalidRequestError(f"{root / path} became shorter while it was sent; build again")
                    left -= len(piece)
                    yield piece
            pending += bytes(-status.st_size % _BLOCK_BYTES)
        elif len(pending) > _HEADERS_AT_ONCE * _BLOCK_BYTES:
            yield bytes(pending)
            pending.clear()
    yield bytes(pending) + bytes(2 * _BLOCK_BYTES)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
