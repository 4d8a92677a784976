"""A message really goes out, by a process of its own, to a real receiver."""

import pytest

from node.notices.sending import send_message
from node.notices.words import Message
from orca.errors import NotDeliveredError
from tests.node.notices.receiver import receiving

pytestmark = pytest.mark.integration
MESSAGE = Message(title="[orca c] error: x", body="one\ntwo\n> ein Ä", kind="failure", identity="x/1/firing/error")


async def test_a_message_comes_as_it_was_written_with_its_identity() -> None:
    with receiving() as receiver:
        await send_message(receiver.address, MESSAGE)
        (came,) = receiver.came
    assert (came["title"], came["message"], came["type"]) == (MESSAGE.title, MESSAGE.body, "failure")
    assert came["notice"] == MESSAGE.identity


async def test_what_is_not_taken_says_why_and_never_the_address() -> None:
    with receiving() as receiver:
        receiver.status = 500
        with pytest.raises(NotDeliveredError) as refused:
            await send_message(receiver.address, MESSAGE)
        assert receiver.refused == 1
    assert "t0ps3cret" not in str(refused.value)
    with pytest.raises(NotDeliveredError, match="none that can be sent to") as wrong:
        await send_message("nonsense://t0ps3cret", MESSAGE)
    assert "t0ps3cret" not in str(wrong.value)


def test_the_node_itself_never_loads_what_sends() -> None:
    import subprocess
    import sys

    code = "import sys, node.agent; print([one for one in sys.modules if one.partition('.')[0] == 'apprise'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
