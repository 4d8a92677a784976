"""The real `serf` command line against our RPC port."""

import subprocess
from collections.abc import Callable

import pytest
import trio

from gossip.membership import EventReceived, MembersChanged, Question, StatusChange
from gossip.messages import NodeFilter, TagFilter
from gossip.rpc.backend import LogLevel
from tests.gossip.rpc.memory_backend import AUTH_KEY, PRIMARY_KEY, Served, comes, make_member, served

pytestmark = pytest.mark.serf


def command_line(at: Served, verb: str, *words: str, key: str = AUTH_KEY) -> list[str]:
    return ["serf", verb, f"-rpc-addr={at.address}", f"-rpc-auth={key}", *words]


async def serf(at: Served, verb: str, *words: str, key: str = AUTH_KEY, is_refused: bool = False) -> str:
    """What `serf VERB WORDS...` prints."""
    with trio.fail_after(30):
        done = await trio.run_process(
            command_line(at, verb, *words, key=key), capture_stdout=True, capture_stderr=True, check=False
        )
    output = done.stdout.decode() + done.stderr.decode()
    assert (done.returncode != 0) is is_refused, output
    return output


async def test_serf_members_lists_ours_with_tags_and_filters() -> None:
    async with served() as at:
        lines = (await serf(at, "members")).splitlines()
        assert [line.split() for line in lines] == [
            ["m1", "10.0.0.1:7946", "alive", "zone=east"],
            ["m2", "10.0.0.2:7946", "alive", "zone=west"],
            ["m3", "10.0.0.3:7946", "failed"],
        ]
        assert (await serf(at, "members", "-status=failed")).split()[0] == "m3"
        assert (await serf(at, "members", "-tag", "zone=w.*")).split()[0] == "m2"
        assert (await serf(at, "members", "-name=m[13]")).count("7946") == 2
        assert "Protocol Version: 5" in await serf(at, "members", "-detailed", "-name=m1")
        assert "cannot be read" in await serf(at, "members", "-name=(", is_refused=True)
        assert '"status": "alive"' in await serf(at, "members", "-format=json")


async def test_serf_event_query_tags_join_and_force_leave_work() -> None:
    async with served() as at:
        await serf(at, "event", "-coalesce=false", "deploy", "web 7")
        assert at.backend.last_call() == ("event", "deploy", b"web 7", False)
        assert "at most 512" in await serf(at, "event", "deploy", "x" * 600, is_refused=True)

        # All that is said comes at once here, and the command ends at the first of "ack", "answer" and "over" that its
        # runtime happens to look at: it is asked again, as people do.
        for _ in range(10):
            output = await serf(at, "query", "-node=m2", "-tag=zone=west", "-timeout=2s", "load", "?")
            if "Ack from 'm2'" in output and "Response from 'm2'" in output:
                break
        assert "Ack from 'm2'" in output
        assert "Response from 'm2': I am m2" in output
        assert "Total Acks: 1" in output
        assert at.backend.questions[-1] == Question(
            name="load",
            payload=b"?",
            filters=(NodeFilter(nodes=("m2",)), TagFilter(tag="zone", expression="west")),
            wants_ack=True,
            timeout_s=2.0,
        )
        assert not at.backend.sinks, "a query follows no events"

        await serf(at, "tags", "-set", "tier=web", "-delete", "zone")
        assert at.backend.table["m1"].tags == {"tier": "web"}
        assert "Successfully joined cluster by contacting 2 nodes" in await serf(at, "join", "10.0.0.8", "10.0.0.9:1")
        assert at.backend.last_call() == ("join", ("10.0.0.8", "10.0.0.9:1"), False)
        assert "nobody answers at 10.9.9.9" in await serf(at, "join", "-replay", "10.9.9.9", is_refused=True)
        await serf(at, "force-leave", "m3")
        assert "left" in await serf(at, "members", "-name=m3")
        await serf(at, "force-leave", "-prune", "m3")
        assert "m3" not in await serf(at, "members")
        assert "no member is named 'm9'" in await serf(at, "force-leave", "m9", is_refused=True)


async def test_serf_keys_info_rtt_reachability_and_leave_work() -> None:
    async with served() as at:
        assert "AAECAwQFBgcICQoLDA0ODw==" in await serf(at, "keys", "-list")
        assert "[2/2]" in await serf(at, "keys", "-list")
        await serf(at, "keys", "-install", "EBESExQVFhcYGRobHB0eHw==")
        assert at.backend.last_call() == ("install-key", bytes(range(16, 32)))
        await serf(at, "keys", "-use", "EBESExQVFhcYGRobHB0eHw==")
        await serf(at, "keys", "-remove", "AAECAwQFBgcICQoLDA0ODw==")
        assert at.backend.last_call() == ("remove-key", PRIMARY_KEY)
        refused = await serf(at, "keys", "-use", "AAECAwQFBgcICQoLDA0ODw==", is_refused=True)
        assert "2/2 nodes reported failure" in refused
        assert "no such key" in refused
        assert "no base64" in await serf(at, "keys", "-install", "%%%", is_refused=True)

        assert "name = m1" in await serf(at, "info")
        assert "Estimated m2 <-> m1 rtt: 1.020 ms" in await serf(at, "rtt", "m2")
        assert "Could not find a coordinate" in await serf(at, "rtt", "m2", "m9", is_refused=True)
        assert "Successfully contacted all live nodes" in await serf(at, "reachability", "-verbose")
        assert "Graceful leave complete" in await serf(at, "leave")
        assert at.backend.last_call() == ("leave",)


async def test_serf_monitor_shows_the_log_and_what_happens() -> None:
    async with served() as at, trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command_line(at, "monitor", "-log-level=warn"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        shown = b""

        async def until(is_so: Callable[[], bool]) -> None:
            nonlocal shown
            assert process.stdout is not None
            with trio.fail_after(20):
                while not is_so():
                    shown += await process.stdout.receive_some(4096)

        await comes(lambda: at.backend.sinks and at.backend.log_sinks)
        at.backend.log(LogLevel.INFO, "too quiet to be shown")
        at.backend.log(LogLevel.WARN, "2026/11/24 03:00:00 [WARN] gossip: a warning")
        at.backend.publish(EventReceived(ltime=3, name="deploy", payload=b"web", is_coalescable=True))
        at.backend.publish(MembersChanged(change=StatusChange.JOINED, members=(make_member("m4", 4),)))
        await until(lambda: b"a warning" in shown and b"member-join" in shown and b"Members" in shown)
        assert b"too quiet" not in shown
        process.terminate()
        with trio.fail_after(20):
            await process.wait()
        await comes(lambda: not at.backend.sinks and not at.backend.log_sinks)
        nursery.cancel_scope.cancel()


async def test_serf_is_told_when_its_key_is_wrong() -> None:
    async with served() as at:
        assert "Invalid authentication token" in await serf(at, "members", key="wrong", is_refused=True)
        assert "Authentication required" in await serf(at, "members", key="", is_refused=True)
        assert "Authentication required" in await serf(at, "event", "deploy", key="", is_refused=True)
        assert not at.backend.calls
