"""`orca join` before the node runs: find a member, be let in, and keep what it gave, all or nothing."""

import ssl
from contextlib import suppress
from typing import Final

import structlog
import trio

from consensus.state.commands.base import SCHEMA
from node.addresses import join_host_port, split_host_port, with_addresses
from node.membership.kept import KeptGossip
from node.mesh.credentials import JOIN_ALPN, client_context
from node.mesh.tls import TlsStream, connect
from node.store.environment import Environment
from node.store.identity import adopt_identity, read_identity
from node.store.views import WriteView
from node.trust.joining import JoinOrder, ask_to_join
from node.trust.kept import KeptTrust, OwnTrust
from node.trust.messages import ANSWER_BYTES_MAX, JoinAnswer
from orca.config import MESH_PORT, GossipBackend, NodeConfig
from orca.errors import InvalidConfigError, InvalidRequestError, NodeUnreachableError, NotAvailableError, OrcaError
from orca.model.ids import NodeId
from orca.model.join_token import JoinOptions, parse_join_token
from orca.model.node import NodeAddresses
from orca.sources import Clock, IdSource
from orca.version import VERSION

_log = structlog.get_logger("orca.trust")
CONNECT_S: Final = 10.0
PATIENCE_S: Final = 30.0
"""Computers that are started together find each other."""
RETRY_S: Final = 1.0


async def enter_cluster(
    config: NodeConfig, options: JoinOptions, environment: Environment, clock: Clock, ids: IdSource, name: str
) -> None:
    """Make the node of `environment` one of the cluster of the token, and return when its store says so.

    A node that belongs to it already joins again as the same one; when no peer answers it goes on as it is.
    Raises InvalidRequestError for a token or an address that is none, and what `ask_to_join` raises.
    """
    try:
        token = parse_join_token(options.token)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error
    kept = KeptTrust(environment)
    identity = read_identity(environment)
    own = kept.own()
    keys = kept.start_keys(ids, None if identity is None else identity.node)
    order = JoinOrder(
        token=token,
        keys=keys,
        name=name,
        schema=SCHEMA,
        release=VERSION,
        own_cluster=None if identity is None else identity.cluster,
    )
    try:
        answer = await _join_some(options.peers, order, config, clock)
        if config.gossip.encrypt != bool(answer.gossip_keys):
            _refuse_gossip(is_sealed=bool(answer.gossip_keys))
    except (NodeUnreachableError, NotAvailableError) as error:
        if own is None or own.has_left:
            raise
        _log.warning("no peer took the join; going on as the node of this cluster that this is", reason=error.message)
        return
    _keep(environment, kept, keys.node, answer)
    _log.info("joined", cluster=answer.cluster, node=keys.node)


def _refuse_gossip(*, is_sealed: bool) -> None:
    how, other = ("sealed", "false") if is_sealed else ("not sealed", "true")
    raise InvalidConfigError(
        f"the gossip of this cluster is {how} and this node has gossip.encrypt = {other}; set it to the opposite",
        hint="then join again with the same data directory, which takes no second use of the token",
    )


def _keep(environment: Environment, kept: KeptTrust, node: NodeId, answer: JoinAnswer) -> None:
    """Everything in one write: after a crash the node is either in, or may join again."""
    gossip = KeptGossip(environment)
    own = OwnTrust(
        certificate=answer.certificate,
        authorities=answer.authorities,
        cross=answer.cross,
        peers=answer.peers,
        gossip_key_version=answer.gossip_key_version,
    )

    def write(view: WriteView) -> None:
        adopt_identity(view, environment, node, answer.cluster)
        kept.put_own(view, own)
        if answer.gossip_keys:
            gossip.put_keys(view, answer.gossip_keys)

    environment.write_blocking(write)


async def _join_some(peers: tuple[str, ...], order: JoinOrder, config: NodeConfig, clock: Clock) -> JoinAnswer:
    """The answer of the first peer that lets this node in; those that do not answer are tried for a while."""
    targets = [(peer, split_host_port(peer, MESH_PORT)) for peer in peers]
    for peer, target in targets:
        if target is None:
            raise InvalidRequestError(f"{peer!r} is no address of a node; write HOST or HOST:PORT (mesh port, 6881)")
    give_up_at = clock.now() + PATIENCE_S
    is_told = False
    while True:
        reasons = []
        failure: OrcaError | None = None
        for peer, target in targets:
            assert target is not None, "looked at above"
            try:
                return await _join(peer, target, order, config, clock)
            except (NodeUnreachableError, NotAvailableError) as error:
                failure = error
                reasons.append(error.message)
        assert failure is not None, "there is a peer at least"
        if clock.now() >= give_up_at:
            failure.message = "; ".join(reasons)
            raise failure
        if not is_told:
            _log.warning("no peer lets this node in yet; trying on", reason="; ".join(reasons), seconds=PATIENCE_S)
            is_told = True
        await trio.sleep(RETRY_S)


async def _join(peer: str, target: tuple[str, int], order: JoinOrder, config: NodeConfig, clock: Clock) -> JoinAnswer:
    pipe = None
    context = client_context(JOIN_ALPN)
    context.verify_mode = ssl.CERT_NONE  # it is known by the token which CA to expect, see `judging.judge_offer`
    with trio.move_on_after(CONNECT_S):
        pipe = await connect(*target, context)
    if pipe is None:
        raise NodeUnreachableError(f"{peer} did not answer in {CONNECT_S:g} s; a firewall may stand between")
    stream = TlsStream(pipe, ANSWER_BYTES_MAX)
    try:
        leaf = pipe.certificate
        if pipe.alpn != JOIN_ALPN or leaf is None:
            raise InvalidRequestError(
                f"whoever answers at {peer} lets nobody join; is it the mesh port (6881) of a node of Orca?"
            )
        addresses = addresses_of(with_addresses(config, reached_by=str(pipe.socket.getsockname()[0])))
        return await ask_to_join(stream, leaf, order, addresses, peer=peer, clock=clock)
    finally:
        with trio.move_on_after(1), suppress(trio.BrokenResourceError):
            await stream.aclose()


def addresses_of(config: NodeConfig, mesh_port: int = 0, gossip_port: int = 0) -> NodeAddresses:
    """What others are told of a node with `config`; ports that the system chooses are known once it runs.

    A node beside a Serf agent has no gossip port.
    """
    host, is_delegated = config.gossip.advertise, config.gossip.backend is GossipBackend.SERF
    mesh = mesh_port or (config.mesh_port and config.mesh_port + config.port_offset)
    gossip = gossip_port or (config.gossip.port and config.gossip.port + config.port_offset)
    return NodeAddresses(
        mesh=join_host_port(host, mesh) if mesh else "",
        gossip=join_host_port(host, gossip) if gossip and not is_delegated else "",
    )
