"""The output of one allocation on disk: JSON lines in numbered files, the oldest dropped.

Written by guest threads, read in worker threads, both off the event loop. The files
stay when the instance ends or the node restarts, and go when it is removed.
"""

import contextlib
import shutil
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final

import msgspec
import trio

from node.runtime.base import LogLine, LogStream
from orca.model.spec import LogSpec
from orca.model.units import WallMs

LINE_BYTES_MAX: Final = 16 * 1024
_READ_BYTES: Final = 256 * 1024
_TAIL_DEFAULT_MAX: Final = 1_000_000


class _Entry(msgspec.Struct):
    """One line as it is stored."""

    ts: int
    stream: LogStream
    text: str


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Entry)


def split_lines(pending: bytes, piece: bytes) -> tuple[list[bytes], bytes]:
    """The whole lines in `pending + piece`, without their ends, and what is left over.

    A line longer than `LINE_BYTES_MAX` comes in pieces, cut between characters.
    """
    *whole, rest = (pending + piece).split(b"\n")
    lines: list[bytes] = []
    for line in whole:
        lines.extend(_cut(line.removesuffix(b"\r")))
    if len(rest) > LINE_BYTES_MAX:
        *full, rest = _cut(rest)
        lines.extend(full)
    return lines, rest


def _cut(line: bytes) -> list[bytes]:
    pieces: list[bytes] = []
    while len(line) > LINE_BYTES_MAX:
        end = LINE_BYTES_MAX
        while end > LINE_BYTES_MAX - 4 and line[end] & 0xC0 == 0x80:  # inside a UTF-8 character
            end -= 1
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]


class AllocationLog:
    """Appends and reads the lines of one allocation; thread-safe.

    `notify` is called, from whatever thread writes, after lines were added and when the
    log is removed.
    """

    def __init__(self, directory: Path, spec: LogSpec, wall: Callable[[], WallMs]) -> None:
        self._directory = directory
        self._spec = spec
        self._wall = wall
        self._lock = threading.Lock()
        self._pending = {LogStream.STDOUT: b"", LogStream.STDERR: b""}
        self._numbers = self._find_files()
        self._size = 0
        self._is_open = False
        self._followers: dict[int, Callable[[], None]] = {}
        self.is_removed = False

    def write(self, stream: LogStream, piece: bytes) -> None:
        """Append output as it comes; an unfinished last line waits for its end or `flush`."""
        with self._lock:
            lines, self._pending[stream] = split_lines(self._pending[stream], piece)
            self._append(stream, lines)

    def flush(self) -> None:
        """The workload ended: unfinished lines are lines too."""
        with self._lock:
            for stream in LogStream:
                rest, self._pending[stream] = self._pending[stream], b""
                if rest:
                    self._append(stream, [rest])

    def note(self, text: str) -> None:
        """A line of the node's own, on stderr."""
        with self._lock:
            self._append(LogStream.STDERR, [f"[orca] {text}".encode()])

    def remove(self) -> None:
        """Delete the files; readers come to their end."""
        with self._lock:
            self.is_removed = True
            shutil.rmtree(self._directory, ignore_errors=True)
            self._numbers.clear()
        self._notify()

    def _append(self, stream: LogStream, lines: list[bytes]) -> None:
        if not lines or self.is_removed:
            return
        ts = self._wall()
        encoded = [_encoder.encode(_Entry(ts, stream, line.decode("utf-8", "replace"))) + b"\n" for line in lines]
        with contextlib.suppress(OSError):  # a full disk loses output, it does not stop the workload
            batch: list[bytes] = []
            for entry in encoded:
                if self._size and self._size + len(entry) > self._spec.file_bytes_max:
                    self._store(batch)
                    batch = []
                    self._rotate()
                batch.append(entry)
                self._size += len(entry)
            self._store(batch)
        self._notify()

    def _store(self, batch: list[bytes]) -> None:
        if not batch:
            return
        if not self._is_open:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._numbers:
                self._numbers.append(0)
            self._is_open = True
        path = self._path(self._numbers[-1])
        with path.open("ab") as file:
            file.write(b"".join(batch))
        if self._size == sum(map(len, batch)):
            path.chmod(0o600)
            self._size = path.stat().st_size

    def _rotate(self) -> None:
        self._numbers.append(self._numbers[-1] + 1 if self._numbers else 0)
        self._size = 0
        while len(self._numbers) > max(1, self._spec.files_max):
            self._path(self._numbers.pop(0)).unlink(missing_ok=True)

    def _find_files(self) -> list[int]:
        return sorted(int(path.stem) for path in self._directory.glob("*.jsonl") if path.stem.isdigit())

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.jsonl"

    def _notify(self) -> None:
        for follower in tuple(self._followers.values()):
            follower()

    def read_from(self, number: int, offset: int) -> tuple[list[LogLine], int, int, bool]:
        """Lines from a place on, the next place, and whether the end was reached."""
        with self._lock:
            numbers = tuple(self._numbers)
        if not numbers:
            return [], number, offset, True
        if number < numbers[0]:
            number, offset = numbers[0], 0
        try:
            with self._path(number).open("rb") as file:
                file.seek(offset)
                content = file.read(_READ_BYTES)
        except OSError:
            content = b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            is_last = number >= numbers[-1]
            return [], number if is_last else number + 1, offset if is_last else 0, is_last
        return _parse(whole), number, offset + len(whole), False

    async def lines(self, *, follow: bool, tail: int | None, since_ms: WallMs | None) -> AsyncGenerator[LogLine, None]:
        """What `Runtime.logs` gives."""
        number, offset = 0, 0
        last: deque[LogLine] = deque(maxlen=_TAIL_DEFAULT_MAX if tail is None else tail)
        changed = _Changed(self._followers)
        try:
            is_tailing = tail is not None
            while True:
                changed.clear()
                found, number, offset, is_end = await trio.to_thread.run_sync(self.read_from, number, offset)
                for line in found:
                    if since_ms is not None and line.at_ms <= since_ms:
                        continue
                    if is_tailing:
                        last.append(line)
                    else:
                        yield line
                if not is_end:
                    continue
                for line in last:
                    yield line
                last.clear()
                is_tailing = False
                if self.is_removed or not follow:
                    return
                await changed.wait()
        finally:
            changed.close()


class _Changed:
    """Wakes a task when some thread has added lines."""

    def __init__(self, followers: dict[int, Callable[[], None]]) -> None:
        self._followers = followers
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()
        followers[id(self)] = self._signal

    def _signal(self) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._event.set()

    def clear(self) -> None:
        """What comes from now on counts."""
        self._event = trio.Event()

    async def wait(self) -> None:
        """Until something came."""
        await self._event.wait()

    def close(self) -> None:
        """No more."""
        self._followers.pop(id(self), None)


def _parse(content: bytes) -> list[LogLine]:
    found: list[LogLine] = []
    for raw in content.splitlines():
        try:
            entry = _decoder.decode(raw)
        except msgspec.DecodeError:  # a write cut by a full disk or a power loss
            continue
        found.append(LogLine(at_ms=WallMs(entry.ts), stream=entry.stream, text=entry.text))
    return found
