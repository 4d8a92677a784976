"""Which cluster do the peers of a new node belong to? Asked once, before it has an identity."""

import math
import random
from ipaddress import ip_address
from typing import Final

import structlog
import trio

from gossip.codec import CodecError, PacketCodec, StreamReader
from gossip.codec.serf_frames import decode_tags
from gossip.codec.streams import encode_stream
from gossip.driver import resolve_seed
from gossip.membership import MemberStatus
from gossip.messages import Address, PushPull, WireState
from gossip.rpc.driver import connect
from node.membership.tags import CLUSTER_TAG
from orca.config import GOSSIP_PORT, AgentSection
from orca.errors import ConflictError, ForbiddenError, InvalidConfigError, NodeUnreachableError, OrcaError
from orca.model.ids import ClusterId

_log = structlog.get_logger("orca.group")
ASK_TIMEOUT_S: Final = 5.0
RETRY_MAX_S: Final = 10.0
_RECEIVE_BYTES: Final = 65_536


async def find_cluster(seeds: tuple[str, ...], codec: PacketCodec) -> ClusterId:
    """The cluster of whoever answers first; asks until somebody does.

    Raises ConflictError when the members that answer belong to several clusters, and
    InvalidConfigError for a seed on another computer: nothing would prove who is there.
    """
    failures = 0
    while True:
        reasons: list[str] = []
        for address in await _addresses(seeds, reasons):
            try:
                found = await _ask(address, codec)
            except NodeUnreachableError as error:
                reasons.append(error.message)
                continue
            if found is not None:
                return found
            reasons.append(f"{address}: no node of a cluster is known there yet")
        if failures in {0, 5}:
            _log.warning("no peer can tell its cluster yet; trying on", reasons="; ".join(reasons))
        failures += 1
        longest = min(RETRY_MAX_S, 0.25 * math.pow(2, min(failures, 8)))
        await trio.sleep(random.uniform(longest / 2, longest))


async def _addresses(seeds: tuple[str, ...], reasons: list[str]) -> list[Address]:
    """All addresses of all seeds; why there are none of a seed goes to `reasons`."""
    found: list[Address] = []
    for seed in seeds:
        try:
            found += await resolve_seed(seed, GOSSIP_PORT)
        except NodeUnreachableError as error:
            reasons.append(error.message)
    return found


async def _ask(address: Address, codec: PacketCodec) -> ClusterId | None:
    """The cluster of the members that the peer at `address` knows."""
    if not ip_address(address.host).is_loopback:
        raise InvalidConfigError(
            f"{address} is on another computer; a node can only join on the same one until nodes can prove who they are"
        )
    answer = await _exchange(address, codec)
    clusters = set()
    for node in answer.nodes:
        if node.state is not WireState.ALIVE:
            continue
        try:
            cluster = decode_tags(node.meta).get(CLUSTER_TAG)
        except CodecError:
            continue
        if cluster:
            clusters.add(cluster)
    if len(clusters) > 1:
        raise ConflictError(f"the members at {address} belong to several clusters: {', '.join(sorted(clusters))}")
    return ClusterId(clusters.pop()) if clusters else None


async def _exchange(address: Address, codec: PacketCodec) -> PushPull:
    """What the peer believes. Our own side is empty: we are nobody yet."""
    reader = StreamReader(codec)
    try:
        with trio.fail_after(ASK_TIMEOUT_S):
            async with await trio.open_tcp_stream(address.host, address.port) as stream:
                await stream.send_all(encode_stream(PushPull(nodes=()), codec))
                while data := await stream.receive_some(_RECEIVE_BYTES):
                    message = reader.feed(bytes(data))
                    if isinstance(message, PushPull):
                        return message
    except (OSError, trio.TooSlowError, trio.BrokenResourceError, CodecError) as error:
        raise NodeUnreachableError(f"{address}: {error or 'no answer in time'}") from error
    raise NodeUnreachableError(f"{address}: it closed without an answer; has it another gossip key?")


async def find_cluster_of_agent(agent: AgentSection, seeds: tuple[str, ...]) -> ClusterId:
    """The cluster of the nodes that the Serf agent beside this new node sees, once it has joined by `seeds`.

    Asks until there is one. Raises ForbiddenError when the agent does not take the key, and ConflictError
    when its members belong to several clusters.
    """
    failures = 0
    while True:
        try:
            async with connect(Address(agent.host, agent.port), agent.key) as client:
                name = (await client.stats()).get("agent", {}).get("name", "")
                await client.join(seeds)
                found = {
                    member.tags[CLUSTER_TAG]
                    for member in await client.members()
                    if member.status is MemberStatus.ALIVE and member.node != name and CLUSTER_TAG in member.tags
                }
                reason = "none of its members is a node of a cluster yet"
        except ForbiddenError as error:
            place = Address(agent.host, agent.port)
            raise ForbiddenError(f"the Serf agent at {place} refuses gossip.agent.key: {error.message}") from error
        except OrcaError as error:
            found, reason = set(), error.message
        if len(found) > 1:
            raise ConflictError(f"the members of the Serf agent belong to several clusters: {', '.join(sorted(found))}")
        if found:
            return ClusterId(found.pop())
        if failures in {0, 5}:
            _log.warning("the Serf agent cannot tell a cluster yet; trying on", reason=reason)
        failures += 1
        longest = min(RETRY_MAX_S, 0.25 * math.pow(2, min(failures, 8)))
        await trio.sleep(random.uniform(longest / 2, longest))
