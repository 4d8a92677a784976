"""Members and gossip by HTTP."""

import pytest

from node.api.server import ApiListen
from orca.client import NodeAddress, NodeClient, open_client
from orca.errors import ConflictError, InvalidRequestError
from orca.model.event import EventKind
from orca.model.view import MemberState, RotateRequest, UserEventRequest
from tests.node.api.control import FakeControl, event
from tests.node.api.raw import serving

pytestmark = pytest.mark.integration


async def ask(control: FakeControl, what: object) -> object:
    async with serving(control, ApiListen(host="127.0.0.1")) as addresses:
        host, port = addresses.tcp[0]
        async with open_client(NodeAddress(host=host, port=port)) as client:
            return await what(client)  # type: ignore[operator]


async def test_members_come_with_their_states_and_who_says_so() -> None:
    async def what(client: NodeClient) -> None:
        reply = await client.nodes()
        assert [member.state for member in reply.members] == [MemberState.ALIVE, MemberState.FAILED]
        assert reply.members[0].is_observer
        assert reply.observation.observer == reply.members[0].id

    await ask(FakeControl(), what)


async def test_the_kill_switch_goes_on_and_off() -> None:
    control = FakeControl()

    async def what(client: NodeClient) -> None:
        assert (await client.pause_gossip(is_paused=True)).is_paused
        assert (await client.gossip()).is_paused
        assert not (await client.pause_gossip(is_paused=False)).is_paused

    await ask(control, what)


async def test_a_user_event_goes_out() -> None:
    control = FakeControl()

    async def what(client: NodeClient) -> None:
        await client.send_event(UserEventRequest(name="deploy", payload="now"))
        with pytest.raises(InvalidRequestError, match="needs a name"):
            await client.send_event(UserEventRequest(name=""))

    await ask(control, what)
    assert control.membership.sent == [("deploy", "now")]


async def test_keys_are_listed_and_rotated_and_a_stop_is_an_answer() -> None:
    async def what(client: NodeClient) -> None:
        assert (await client.gossip_keys()).reports[0].keys == {"abc": 2}
        assert (await client.gossip_key()).key == "a2V5"
        assert (await client.rotate_gossip_keys(RotateRequest(allow_absent=True))).is_done
        stopped = await client.rotate_gossip_keys(RotateRequest())
        assert (stopped.is_done, stopped.reason) == (False, "real failed")
        with pytest.raises(InvalidRequestError, match="base64"):
            await client.rotate_gossip_keys(RotateRequest(key="bad"))

    await ask(FakeControl(), what)


async def test_the_group_is_started_anew_only_when_nothing_speaks_against_it() -> None:
    control = FakeControl()

    async def what(client: NodeClient) -> None:
        with pytest.raises(ConflictError, match="a quorum lives"):
            await client.recover_quorum()
        assert (await client.recover_quorum(force=True)).has_quorum

    await ask(control, what)
    assert [call for call in control.calls if call[0] == "recover"] == [("recover", "", False), ("recover", "", True)]


async def test_events_of_the_cluster_are_told_apart() -> None:
    control = FakeControl()
    await control.publish(event(1), event(2, kind=EventKind.MEMBER_JOINED), event(3))

    async def what(client: NodeClient) -> None:
        assert [one.sequence for one in (await client.events(is_of_cluster=True)).events] == [2]
        assert len((await client.events()).events) == 3

    await ask(control, what)
