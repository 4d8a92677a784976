"""Requests that never stop while something else is done, and what became of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.node import Node


@contextmanager
def constant_requests(node: Node, path: str) -> Iterator[list[str]]:
    """Ask for `path` through the proxy again and again; gives what was answered, wrong things marked."""
    answers: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.005):
            try:
                reply = node.through_proxy(path, timeout_s=10)
                answers.append(
                    reply.text.strip() if reply.status == 200 else f"FAILED {reply.status} {reply.text[:300]}"
                )
            except OSError as error:
                answers.append(f"FAILED {error!r}")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        for thread in threads:
            thread.join(20)


def failures(answers: list[str]) -> list[str]:
    return [one for one in answers if one.startswith("FAILED")]
