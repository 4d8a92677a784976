"""Hands a message to a process of its own and waits for its end, on trio."""

import subprocess
import sys
from typing import Final

import msgspec
import trio

from node.alerts.evidence import quotable
from node.notices.errand import Answer, Errand
from node.notices.words import Message
from orca.errors import NotAvailableError, NotDeliveredError

SEND_S: Final = 30.0
"""From the start of the process to its answer; after that it is killed."""
_LINES_MAX: Final = 64 * 1024


async def send_message(address: str, message: Message) -> None:
    """Send it. Raises NotDeliveredError when it was not taken, or when nobody knows."""
    errand = Errand(
        address=address, title=message.title, body=message.body, kind=message.kind, identity=message.identity
    )
    done: subprocess.CompletedProcess[bytes] | None = None
    with trio.move_on_after(SEND_S):
        try:
            done = await trio.run_process(
                [sys.executable, "-m", "node.notices.child"],
                stdin=msgspec.json.encode(errand),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        except OSError as error:
            raise NotAvailableError(f"no process could be started to send it: {error.strerror or error}") from error
    if done is None:
        raise NotDeliveredError(f"no answer within {SEND_S:g} s")
    try:
        answer = msgspec.json.decode(done.stdout[:_LINES_MAX].strip().rsplit(b"\n", 1)[-1], type=Answer)
    except msgspec.MsgspecError as error:
        last = done.stderr[-_LINES_MAX:].decode(errors="replace").strip().rpartition("\n")[2]
        raise NotDeliveredError(f"the sending process failed: {quotable(last)}") from error
    if answer.problem:
        raise NotDeliveredError(quotable(answer.problem))
