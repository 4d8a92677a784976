"""A constant load of requests, from a process of its own, and what came of each.

`python -m tests.cluster.load URL... --every 0.02` asks the URLs in turn, so many seconds apart, whatever the answers
take, until SIGTERM; then it prints one JSON array a request: when it began (`time.monotonic`), its URL, and what was
wrong, empty for an answer with status 200.
"""

import argparse
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.integration.node import ROOT

TIMEOUT_S = 10.0
IN_FLIGHT_MAX = 200


@dataclass(frozen=True)
class Asked:
    """One request: when it began, to whom, and what was wrong with its answer."""

    at: float
    url: str
    wrong: str


@dataclass
class Load:
    """What came of a load; complete once it has ended."""

    asked: list[Asked] = field(default_factory=list)

    def failures(self, *, after: float = 0.0) -> list[Asked]:
        """Those that failed among the requests that began after `after`."""
        return [one for one in self.asked if one.wrong and one.at > after]


@contextmanager
def constant_load(within: Sequence[str], urls: Sequence[str], every_s: float = 0.02) -> Iterator[Load]:
    """Ask `urls` in turn as long as the context lasts; `within` is the command that enters a computer."""
    load = Load()
    command = [*within, sys.executable, "-m", "tests.cluster.load", *urls, "--every", str(every_s)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"asking\n"
    try:
        yield load
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT_S + 10)
        assert process.returncode == 0, err.decode()
        load.asked += [Asked(*json.loads(line)) for line in out.splitlines()]


def ask(url: str) -> str:
    """What is wrong with the answer to a GET of `url`; empty for a 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()
    return "" if answer.status == 200 else f"{answer.status} {body[:200].decode(errors='replace')}"


def main() -> None:
    """Ask until SIGTERM, then tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--every", type=float, default=0.02)
    given = parser.parse_args()
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    told: list[tuple[float, str, str]] = []
    threads: list[threading.Thread] = []

    def one(url: str) -> None:
        at = time.monotonic()
        told.append((at, url, ask(url)))

    print("asking", flush=True)  # noqa: T201
    number = 0
    while not is_over.wait(given.every):
        threads = [thread for thread in threads if thread.is_alive()]
        if len(threads) < IN_FLIGHT_MAX:
            thread = threading.Thread(target=one, args=(given.urls[number % len(given.urls)],))
            thread.start()
            threads.append(thread)
            number += 1
    for thread in threads:
        thread.join(TIMEOUT_S + 1)
    for record in told:
        print(json.dumps(record))  # noqa: T201


if __name__ == "__main__":
    main()
