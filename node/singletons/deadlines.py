"""When each singleton of this node has to be dead: files that the guard reads, and the guard itself.

They lie in memory, so that a full or slow disk costs no lease. Each says of which start of the computer it is: before
the last one nothing can run any more. The calls write a few bytes to memory, except `ensure_guard`, which may start a
process: use a worker thread.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from node.singletons import guard
from orca.errors import NotAvailableError
from orca.model.ids import AllocationId
from orca.model.units import Instant

LOG_BYTES_MAX: Final = 1_000_000
GUARD_S: Final = 10.0


class Deadlines:
    """The files in `directory`; the guard reaches the engine at `engine`, and ends only what has all of `labels`."""

    def __init__(self, directory: Path, engine: str, labels: tuple[str, ...]) -> None:
        self._directory = directory
        self._engine = engine
        self._labels = labels
        self._boot = guard.boot_id()

    def load(self) -> Mapping[AllocationId, Instant]:
        """What an earlier daemon wrote since this computer started. What cannot be read is of no use to the guard."""
        found: dict[AllocationId, Instant] = {}
        for path in sorted(self._directory.glob(f"*{guard.SUFFIX}")):
            at_s = guard.read_deadline(path, self._boot)
            if at_s is not None:
                found[AllocationId(path.name.removesuffix(guard.SUFFIX))] = Instant(at_s)
        return found

    def extend(self, allocation: AllocationId, until: Instant) -> None:
        """What runs of `allocation` is to be dead at `until`. Raises NotAvailableError."""
        path = self._path(allocation)
        fresh = path.with_name(f".{path.name}.new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(json.dumps({"boot": self._boot, "until_s": until}))
            fresh.replace(path)
        except OSError as error:
            raise NotAvailableError(f"the end of a lease cannot be noted in {self._directory}: {error}") from error

    def forget(self, allocation: AllocationId) -> None:
        """Nothing runs of it."""
        self._path(allocation).unlink(missing_ok=True)

    def _path(self, allocation: AllocationId) -> Path:
        return self._directory / f"{allocation}{guard.SUFFIX}"

    def ensure_guard(self) -> None:
        """Have a guard live. Blocks while one starts; raises NotAvailableError when none does."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._directory / guard.LOCK).open("a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return  # it lives
                fcntl.flock(lock, fcntl.LOCK_UN)
            self._start()
        except (OSError, subprocess.SubprocessError) as error:
            raise NotAvailableError(f"the guard that ends a copy with its lease cannot be started: {error}") from error

    def _start(self) -> None:
        log = self._directory / "guard.log"
        with contextlib.suppress(OSError):
            if log.stat().st_size > LOG_BYTES_MAX:
                log.unlink()
        command = [sys.executable, "-I", "-S", guard.__file__, str(self._directory), self._engine, *self._labels]
        with log.open("ab") as output:
            started = subprocess.Popen(  # noqa: S603 - our own program
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd="/",
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", "")},
            )
        assert started.stdout is not None, "asked for"
        with started.stdout as words:
            said = words.readline()  # a line once it has the lock, nothing when it has ended
        started.wait(GUARD_S)
        if not said:
            raise NotAvailableError(f"the guard that ends a copy with its lease ended at once; {log} may say why")
