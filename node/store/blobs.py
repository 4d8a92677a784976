"""Files under their own hash: WebAssembly modules and whatever else a spec refers to by content."""

import errno
import hashlib
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import trio

from node.store.directory import make_private_directory, sync_directory
from orca.errors import InvalidRequestError, NotAvailableError, PayloadTooLargeError, StoreFullError
from orca.model.ids import BlobDigest
from orca.model.units import format_bytes

BLOB_BYTES_MAX: Final = 512 * 2**20
MIN_AGE_S: Final = 3600.0
"""A blob comes before the spec that names it: one hour is longer than any deploy waits between the two."""
SWEEP_S: Final = 3600.0

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_NAME: Final = re.compile(r"sha256-([0-9a-f]{64})")
_PIECE_BYTES: Final = 2**20


class BlobStore:
    """The blobs in one directory. A file there is whole and has the content its name says."""

    def __init__(self, path: Path, *, bytes_max: int = BLOB_BYTES_MAX) -> None:
        """Make the directory and remove what unfinished uploads left. Blocks, shortly.

        The directory must be in a locked data directory. Raises `InvalidConfigError`.
        """
        self._path = path
        self._incoming = path / "incoming"
        self._bytes_max = bytes_max
        self._uploads = 0
        make_private_directory(path)
        make_private_directory(self._incoming)
        for left in self._incoming.iterdir():
            left.unlink()

    async def put(self, source: bytes | AsyncIterable[bytes], digest: BlobDigest) -> Path:
        """Keep the content of `source`, which must have the hash `digest`; where it lies. On disk when it returns.

        A stream is bounded in time, and closed when this fails, by its owner. Raises `InvalidRequestError` for
        content of another hash, `PayloadTooLargeError`, `StoreFullError`; nothing is kept then.
        """
        path = self.path(digest)
        if self.has(digest):
            # It is about to be used again: `remove_unused` counts its age from now.
            await trio.to_thread.run_sync(os.utime, path)
            return path
        self._uploads += 1
        incoming = self._incoming / str(self._uploads)
        is_kept = False
        try:
            with _translated(path):
                await self._receive(source, incoming, digest)
                await trio.to_thread.run_sync(self._finish, incoming, path)
            is_kept = True
        finally:
            if not is_kept:
                incoming.unlink(missing_ok=True)
        return path

    def path(self, digest: BlobDigest) -> Path:
        """Where the blob lies, or would. Raises `InvalidRequestError` for what is no digest."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise InvalidRequestError(f"{digest[:100]!r} is not a digest; write sha256: and 64 hex digits")
        return self._path / f"sha256-{match[1]}"

    def has(self, digest: BlobDigest) -> bool:
        """Whether the blob is kept."""
        return self.path(digest).is_file()

    def digests(self) -> tuple[BlobDigest, ...]:
        """All that are kept, in order."""
        names = sorted(entry.name for entry in self._path.iterdir())
        return tuple(BlobDigest(name.replace("-", ":", 1)) for name in names if _NAME.fullmatch(name))

    async def keep_swept(self, used: Callable[[], frozenset[BlobDigest]]) -> None:
        """Remove contents that nobody uses, now and every hour."""
        while True:
            await self.remove_unused(used())
            await trio.sleep(SWEEP_S)

    async def remove_unused(
        self, keep: frozenset[BlobDigest], *, min_age_s: float = MIN_AGE_S
    ) -> tuple[BlobDigest, ...]:
        """Remove the blobs that are not in `keep` and were last put longer ago than `min_age_s`; which they were."""
        return await trio.to_thread.run_sync(self._remove_unused, keep, min_age_s)

    def _remove_unused(self, keep: frozenset[BlobDigest], min_age_s: float) -> tuple[BlobDigest, ...]:
        removed = []
        for digest in self.digests():
            path = self.path(digest)
            if digest in keep or time.time() - path.stat().st_mtime < min_age_s:
                continue
            path.unlink()
            removed.append(digest)
        return tuple(removed)

    async def _receive(self, source: bytes | AsyncIterable[bytes], incoming: Path, digest: BlobDigest) -> None:
        hasher = hashlib.sha256()
        size = 0
        fd = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb", buffering=0) as file:
            gathered = bytearray()
            async with aclosing(_chunks(source)) as chunks:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self._bytes_max:
                        raise PayloadTooLargeError(f"{digest} is larger than {format_bytes(self._bytes_max)}")
                    gathered += chunk
                    if len(gathered) >= _PIECE_BYTES:
                        await trio.to_thread.run_sync(_write, file, bytes(gathered), hasher)
                        gathered.clear()
            await trio.to_thread.run_sync(_write, file, bytes(gathered), hasher)
            found = f"sha256:{hasher.hexdigest()}"
            if found != digest:
                raise InvalidRequestError(f"the content has the digest {found}, not {digest} ({size} bytes received)")
            await trio.to_thread.run_sync(os.fsync, file.fileno())

    def _finish(self, incoming: Path, path: Path) -> None:
        incoming.rename(path)
        sync_directory(self._path)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Errors of the disk as errors of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFullError(f"no room on the disk for {path}: {error.strerror}") from error
        raise NotAvailableError(f"cannot keep {path}: {error.strerror}") from error


async def _chunks(source: bytes | AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    if isinstance(source, bytes):
        for start in range(0, len(source), _PIECE_BYTES):
            yield source[start : start + _PIECE_BYTES]
        return
    async for chunk in source:
        yield chunk


def _write(file: BinaryIO, piece: bytes, hasher: "hashlib._Hash") -> None:
    hasher.update(piece)
    rest = memoryview(piece)
    while rest:
        written = file.write(rest)
        rest = rest[written:]
