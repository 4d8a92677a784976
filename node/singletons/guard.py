"""The guard: a process of its own that kills the container of a singleton when its lease ends, whoever else is gone.

`python guard.py DIRECTORY ENGINE LABEL…`: each file `ALLOCATION.until` there says when what runs of it has to be dead.
It uses the standard library alone, so that it is small and starts at once; it holds nothing that it could not find
again. One guards a directory: the lock tells. It ends when there has been nothing to guard for a minute.
"""

import contextlib
import fcntl
import http.client
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

SUFFIX: Final = ".until"
LOCK: Final = "guard.lock"
SCAN_S: Final = 0.5
IDLE_S: Final = 60.0
ENGINE_S: Final = 2.0
"""A slow engine must not keep the guard from looking at the clock."""


def now_s() -> float:
    """Seconds since this computer started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Which start of this computer this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def read_deadline(path: Path, boot: str) -> float | None:
    """What a file says, by `now_s`; None when it is gone, cannot be read, or is of an earlier start."""
    try:
        found = json.loads(path.read_text())
        return float(found["until_s"]) if found["boot"] == boot else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _Unix(http.client.HTTPConnection):
    """A connection to the engine's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=ENGINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """The few calls that are needed. Each raises OSError or HTTPException when there is no answer."""

    def __init__(self, address: str, labels: tuple[str, ...]) -> None:
        self._address = address
        self._labels = labels

    def containers(self, allocation: str) -> list[tuple[str, str]]:
        """Id and state of each container of `allocation`."""
        wanted = {"label": [*self._labels, f"orca.allocation={allocation}"]}
        found = self._call("GET", f"/containers/json?all=1&filters={quote(json.dumps(wanted))}")
        return [(str(one["Id"]), str(one["State"])) for one in found or ()]

    def pid(self, container: str) -> int:
        """The first process of a container; 0 when it does not run."""
        return int((self._call("GET", f"/containers/{container}/json") or {})["State"]["Pid"])

    def end(self, container: str, state: str) -> None:
        """Kill what runs; what was only made is removed, so that no start that is on its way revives it."""
        if state == "created":
            self._call("DELETE", f"/containers/{container}?force=1")
        else:
            self._call("POST", f"/containers/{container}/kill?signal=KILL")

    def _call(self, method: str, target: str) -> Any:
        if self._address.startswith("unix://"):
            connection: http.client.HTTPConnection = _Unix(self._address.removeprefix("unix://"))
        else:
            host, _, port = self._address.partition("://")[2].rstrip("/").rpartition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=ENGINE_S)
        with contextlib.closing(connection):
            connection.request(method, target)
            body = connection.getresponse().read()
        return json.loads(body) if method == "GET" and body else None


class Watch(threading.Thread):
    """Looks after one allocation until its file is gone."""

    def __init__(self, path: Path, engine: Engine, boot: str) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._allocation = path.name.removesuffix(SUFFIX)
        self._engine = engine
        self._boot = boot
        self._process: int | None = None

    def run(self) -> None:
        """Until the file is gone, or the deadline has passed and nothing runs."""
        while (until_s := read_deadline(self._path, self._boot)) is not None:
            left_s = until_s - now_s()
            if left_s > 0:
                self._find_process(left_s)
                time.sleep(max(0.01, min(SCAN_S, until_s - now_s())))
            elif self._kill():
                # Only if it says the same still: the daemon may have got the lease anew.
                if read_deadline(self._path, self._boot) == until_s:
                    self._path.unlink(missing_ok=True)
            else:
                time.sleep(SCAN_S)

    def _find_process(self, left_s: float) -> None:
        """Hold on to the container's first process, so that it can be killed without the engine."""
        if self._process is not None and not _has_ended(self._process):
            return
        if self._process is not None:
            os.close(self._process)
            self._process = None
        if left_s < ENGINE_S:
            return
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            for container, state in self._engine.containers(self._allocation):
                pid = self._engine.pid(container) if state in {"running", "paused"} else 0
                if pid and (process := os.pidfd_open(pid)) is not None:
                    # The engine may count its processes otherwise than we do: whose it is, its own mounts say.
                    if container in Path(f"/proc/{pid}/mountinfo").read_text():
                        self._process = process
                        return
                    os.close(process)

    def _kill(self) -> bool:
        """Kill what there is; whether certainly nothing is left that runs."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
        try:
            left = [one for one in self._engine.containers(self._allocation) if one[1] not in {"exited", "dead"}]
            for container, state in left:
                _say(f"the lease of {self._allocation} is over: container {container[:12]} ({state}) is ended")
                self._engine.end(container, state)
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            _say(f"the engine does not answer about {self._allocation}: {error}")
            return False
        return not left


def _has_ended(process: int) -> bool:
    return bool(select.select([process], [], [], 0)[0])


def _say(words: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {words}\n")
    sys.stderr.flush()


def main(directory: Path, engine: Engine) -> None:
    """Guard until there has been nothing to guard for a while."""
    boot, watches, idle_since = boot_id(), dict[str, Watch](), now_s()
    while now_s() - idle_since < IDLE_S:
        watches = {name: watch for name, watch in watches.items() if watch.is_alive()}
        for path in directory.glob(f"*{SUFFIX}"):
            if path.name not in watches and read_deadline(path, boot) is not None:
                watches[path.name] = Watch(path, engine, boot)
                watches[path.name].start()
        if watches:
            idle_since = now_s()
        time.sleep(SCAN_S)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _place = Path(sys.argv[1])
    with (_place / LOCK).open("a") as _lock:
        try:
            fcntl.flock(_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.write(1, b"another guard lives\n")
            sys.exit(0)
        if os.fork():
            os._exit(0)  # so that the daemon has no child to wait for; the lock stays with the other one
        os.write(1, b"ready\n")
        os.close(1)
        main(_place, Engine(sys.argv[2], tuple(sys.argv[3:])))
