"""A join over real TLS between two ends in memory: who gets in, who does not and why, and that nothing changed."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from consensus.state.commands import RedeemJoinToken, RemoveNode, RevokeJoinToken
from node.mesh.credentials import JOIN_ALPN, client_context
from node.mesh.frames import FrameStream
from node.trust.authority import fingerprint_of, identity_in, load_certificate
from node.trust.joining import JoinOrder, ask_to_join
from node.trust.judging import CLOCK_APART_MS
from node.trust.kept import make_keys
from node.trust.messages import JoinAnswer, decode_message
from orca.errors import (
    ConflictError,
    ForbiddenError,
    NodeUnreachableError,
    NotAvailableError,
    OrcaError,
    ProposalLostError,
)
from orca.model.ids import NodeId, RequestId
from orca.model.join_token import JoinToken
from orca.model.node import NodeAddresses
from orca.model.trust import NodeRole
from tests.node.trust.cluster import CLUSTER, HOUR_MS, Member, SetClock, order

ADDRESSES = NodeAddresses(mesh="127.0.0.1:6999", gossip="127.0.0.1:7999")


def joining_context() -> ssl.SSLContext:
    context = client_context(JOIN_ALPN)
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def connected(member: Member, address: str = "10.0.0.9") -> AsyncIterator[tuple[trio.SSLStream[Any], bytes]]:
    """The joiner's end of a connection to the desk of `member`, and the certificate that was shown on it."""
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            server = trio.SSLStream(far, member.credentials.server_context(), server_side=True, https_compatible=True)
            await server.do_handshake()
            await member.desk.serve(server, address)
            await server.aclose()

        nursery.start_soon(serve)
        client = trio.SSLStream(near, joining_context(), https_compatible=True)
        await client.do_handshake()
        yield client, client.getpeercert(binary_form=True)
        with trio.move_on_after(1):
            await client.aclose()


async def join(member: Member, what: JoinOrder, clock: SetClock | None = None, address: str = "10.0.0.9") -> JoinAnswer:
    async with connected(member, address) as (stream, leaf):
        return await ask_to_join(stream, leaf, what, ADDRESSES, peer="the-peer", clock=clock or member.clock)
    raise AssertionError("unreachable")


async def refused(member: Member, what: JoinOrder, kind: type[OrcaError], **more: Any) -> str:
    """Join, be refused, and see that nothing changed at the member."""
    before, proposals = member.image(), len(member.replica.proposed)
    caught: OrcaError | None = None
    try:
        await join(member, what, **more)
    except* kind as group:
        (caught,) = group.exceptions  # type: ignore[assignment]
    assert caught is not None, "it was let in"
    assert member.image() == before
    assert len(member.replica.proposed) == proposals, "a refusal reached the log"
    assert what.token.secret not in caught.message + caught.hint
    return f"{caught.message} {caught.hint}"


async def test_who_has_a_token_gets_a_certificate_that_is_on_the_list() -> None:
    member = Member()
    token = member.make_token()
    what = order(token)
    answer = await join(member, what)
    record = member.state.nodes[what.keys.node]
    assert identity_in(load_certificate(answer.certificate)) == (CLUSTER, what.keys.node)
    assert [one.fingerprint for one in record.certificates] == [fingerprint_of(answer.certificate)]
    assert (record.name, record.addresses, record.role) == ("newcomer", ADDRESSES, NodeRole.MEMBER)
    assert record.wrap_key == what.keys.wrap_public
    assert answer.gossip_keys == (b"g" * 32,)
    assert answer.peers[0].node == member.keys.node
    assert member.credentials.authorize(answer.certificate) == what.keys.node
    assert member.state.join_tokens[token.id].uses_left == 0


async def test_a_worker_comes_by_the_token_of_a_worker() -> None:
    member = Member()
    what = order(member.make_token(role=NodeRole.WORKER))
    await join(member, what)
    assert member.state.nodes[what.keys.node].role is NodeRole.WORKER


async def test_a_wrong_secret_an_unknown_and_a_revoked_token_read_alike() -> None:
    member = Member()
    token = member.make_token()
    wrong = JoinToken(fingerprint=token.fingerprint, id=token.id, secret="a" * 26)
    unknown = JoinToken(fingerprint=token.fingerprint, id=member.make_token(number="uuuuuuuu").id, secret="b" * 26)
    for bad in (wrong, unknown):
        assert "not valid here" in await refused(member, order(bad), ForbiddenError)
    outcome = member.state_machine.apply(
        RevokeJoinToken(request_id=RequestId("x"), at_ms=member.clock.wall(), actor="ann", token=token.id)
    )
    assert not outcome.error
    said = await refused(member, order(token), ForbiddenError)
    assert "revoked" in said
    assert "`orca token create` on a living node" in said


async def test_an_expired_token_is_refused_and_says_since_when() -> None:
    member = Member()
    token = member.make_token(ttl_ms=60_000)
    member.clock.wall_ms += 61_000
    assert "expired 1 s ago" in await refused(member, order(token), ForbiddenError)


async def test_a_used_token_is_refused_for_another_node_and_taken_again_from_the_same_one() -> None:
    member = Member()
    token = member.make_token()
    what = order(token)
    first = await join(member, what)
    other = order(token, make_keys(NodeId("n-other")), "other")
    assert "used up (by n-new)" in await refused(member, other, ForbiddenError)
    again = await join(member, what)
    assert again.certificate != first.certificate
    assert len(member.state.join_tokens[token.id].redeemed) == 1, "no second use was taken"


async def test_a_node_that_was_removed_never_comes_back_under_its_identity() -> None:
    member = Member()
    what = order(member.make_token(uses=2))
    await join(member, what)
    outcome = member.state_machine.apply(
        RemoveNode(request_id=RequestId("x"), at_ms=member.clock.wall(), actor="ann", node=what.keys.node)
    )
    assert not outcome.error
    assert "empty data directory" in await refused(member, what, ForbiddenError)


async def test_somebody_with_another_ca_is_told_nothing() -> None:
    """A man in the middle with a CA of his own, who even says that he is of the same cluster."""
    victim, stranger = Member(), Member()
    token = victim.make_token()
    async with connected(stranger) as (stream, leaf):
        with pytest.raises(ForbiddenError, match="Nothing was sent"):
            await ask_to_join(stream, leaf, order(token), ADDRESSES, peer="the-peer", clock=victim.clock)
    assert not stranger.replica.proposed
    assert stranger.desk.attempts.failures == 0, "the token was not shown"


async def test_somebody_who_shows_the_right_ca_without_a_certificate_of_it_is_told_nothing() -> None:
    """He replays the true CA's certificate, which is public, but cannot have one signed by it."""
    victim, stranger = Member(), Member()
    token = victim.make_token()
    stranger.credentials.own = msgspec.structs.replace(
        stranger.credentials.own, authorities=(victim.authority.certificate,)
    )
    context = stranger.credentials.server_context()  # with his own leaf
    stranger.state.authorities.clear()
    stranger.credentials._contexts = (context, context, context)
    stranger.credentials._made_for = (
        stranger.credentials.own.certificate,
        stranger.credentials.anchors(),
        stranger.credentials.cross_certificates(),
    )
    async with connected(stranger) as (stream, leaf):
        with pytest.raises(ForbiddenError, match="no certificate of CA"):
            await ask_to_join(stream, leaf, order(token), ADDRESSES, peer="the-peer", clock=victim.clock)
    assert stranger.desk.attempts.failures == 0


@pytest.mark.parametrize("apart_ms", [CLOCK_APART_MS + 60_000, -CLOCK_APART_MS - 60_000, 400 * 24 * HOUR_MS])
async def test_clocks_that_are_apart_are_named_with_both_times(apart_ms: int) -> None:
    member = Member()
    what = order(member.make_token(ttl_ms=20 * 24 * HOUR_MS))
    said = await refused(member, what, ForbiddenError, clock=SetClock(member.clock.wall_ms + apart_ms))
    assert "s apart: it is 20" in said
    assert "date -u" in said
    assert member.desk.attempts.failures == 0


async def test_clocks_that_are_a_little_apart_do_no_harm() -> None:
    member = Member()
    await join(member, order(member.make_token()), SetClock(member.clock.wall_ms - CLOCK_APART_MS + 5_000))


async def test_a_directory_of_another_cluster_is_not_joined() -> None:
    member = Member()
    what = msgspec.structs.replace(order(member.make_token()), own_cluster="c-other")
    assert "belongs to cluster c-other" in await refused(member, what, ConflictError)


async def test_a_name_that_is_taken_is_refused() -> None:
    member = Member()
    assert "--name" in await refused(member, order(member.make_token(), name="founder"), ConflictError)


async def test_ten_thousand_wrong_tokens_never_reach_the_log_and_a_right_one_from_elsewhere_gets_in() -> None:
    member = Member()
    token = member.make_token()
    wrong = order(JoinToken(fingerprint=token.fingerprint, id=token.id, secret="a" * 26))
    for _ in range(30):
        with pytest.raises(ExceptionGroup):
            await join(member, wrong, address="10.6.6.6")
    assert member.desk.attempts.failures == 10, "after ten nothing is looked at any more"
    for _ in range(10_000):
        assert member.desk.attempts.wait_s("10.6.6.6", member.clock.now()) > 0
    assert not member.replica.proposed
    assert "too many wrong join tokens" in await refused(member, wrong, NotAvailableError, address="10.6.6.6")
    await join(member, order(token), address="10.0.0.9")


async def test_a_joiner_that_dies_before_the_answer_joins_again_as_the_same_node() -> None:
    member = Member()
    token = member.make_token()
    what = order(token)

    async with connected(member) as (stream, leaf):
        with trio.move_on_after(0):  # dies before it has said anything
            await ask_to_join(stream, leaf, what, ADDRESSES, peer="the-peer", clock=member.clock)
    assert what.keys.node not in member.state.nodes
    member.replica.lose_answer = ProposalLostError("the leader changed; the change may still happen")
    with pytest.raises(ExceptionGroup):
        await join(member, what)  # committed, but the member could not tell
    assert member.state.join_tokens[token.id].uses_left == 0
    answer = await join(member, what)
    assert member.credentials.authorize(answer.certificate) == what.keys.node
    assert len(member.state.nodes) == 2


async def test_a_member_that_dies_at_any_step_leaves_the_joiner_as_it_was() -> None:
    member = Member()
    what = order(member.make_token())
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def die_after_handshake() -> None:
            server = trio.SSLStream(far, member.credentials.server_context(), server_side=True, https_compatible=True)
            await server.do_handshake()
            await trio.aclose_forcefully(far)

        nursery.start_soon(die_after_handshake)
        client = trio.SSLStream(near, joining_context(), https_compatible=True)
        await client.do_handshake()
        with pytest.raises(NodeUnreachableError):
            await ask_to_join(client, member.certificate, what, ADDRESSES, peer="the-peer", clock=member.clock)
    assert (await join(member, what)).cluster == CLUSTER


async def test_nobody_joins_under_the_id_of_another_node() -> None:
    member = Member()
    what = order(member.make_token())
    swapped = msgspec.structs.replace(what, keys=msgspec.structs.replace(what.keys, node=NodeId("n-founder")))
    assert "with another key" in await refused(member, swapped, ForbiddenError)


async def test_the_secret_is_in_no_description() -> None:
    member = Member()
    token = member.make_token()
    what = order(token)
    await join(member, what)
    command = next(one for one in member.replica.proposed if isinstance(one, RedeemJoinToken))
    everything = [repr(token), repr(what), repr(command), repr(member.state), repr(what.keys)]
    assert not [text for text in everything if token.secret in text]


async def test_what_is_no_request_is_refused_in_words() -> None:
    member = Member()
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(member.desk.serve, far, "10.0.0.9")
        frames = FrameStream(near)
        await frames.receive()
        await frames.send((b"\xc1nonsense",))
        answer = decode_message(await frames.receive())
        assert getattr(answer, "code", "") == "peer_protocol"
