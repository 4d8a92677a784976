"""Signs leaves where the CA's key can be opened: here, or on a member that is asked over the mesh."""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import msgspec
import trio
from cryptography import x509

from consensus.state.cluster import ClusterState
from node.certificates.wanted import own_names, served_domains
from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.trust.authority import Authority
from node.trust.data_keys import DataKeys
from node.trust.leaves import NAMES_MAX, sign_leaf
from orca.errors import (
    ErrorBody,
    InvalidRequestError,
    NotAvailableError,
    OrcaError,
    PeerProtocolError,
    from_body,
    to_body,
)
from orca.model.ids import NodeId
from orca.model.units import WallMs
from orca.sources import Clock

LEAVES_MAX: Final = 64
"""In one request."""
ANSWER_S: Final = 10.0
Names = tuple[str, ...]
"""The names of one certificate."""


class LeafRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates for the key in `csr`, one for each of `leaves`."""

    csr: bytes
    leaves: tuple[Names, ...]


class LeafAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One certificate (DER) for each leaf, empty where there is none for now; or why there are none at all."""

    certificates: tuple[bytes, ...] = ()
    error: ErrorBody | None = None


_requests = msgspec.msgpack.Decoder(LeafRequest)
_answers = msgspec.msgpack.Decoder(LeafAnswer)


def sign_all(
    authority: Authority, leaves: Sequence[Names], csr: bytes, at_ms: WallMs, is_right: Callable[[Names], bool]
) -> tuple[bytes, ...]:
    """A certificate for each of `leaves`, empty where that `is_right` not. Takes a third of a millisecond each."""
    return tuple(
        sign_leaf(authority, names, csr, serial=x509.random_serial_number(), at_ms=at_ms) if is_right(names) else b""
        for names in leaves
    )


class LeafSigner:
    """Both ends. `members` gives the living nodes that can sign, without this one."""

    def __init__(
        self,
        state: Callable[[], ClusterState],
        mesh: Mesh,
        data_keys: DataKeys,
        clock: Clock,
        *,
        members: Callable[[], Iterable[NodeId]],
    ) -> None:
        self._state = state
        self._mesh = mesh
        self._data_keys = data_keys
        self._clock = clock
        self._members = members

    async def certify(self, csr: bytes, leaves: Sequence[Names]) -> tuple[bytes, ...]:
        """A certificate for each of up to `LEAVES_MAX` leaves of this node. Raises NotAvailableError."""
        if self._data_keys.can_sign_for_ingress:
            authority = self._data_keys.ingress_signing()
            return await trio.to_thread.run_sync(sign_all, authority, leaves, csr, self._clock.wall(), lambda _: True)
        reasons = []
        for node in sorted(self._members(), key=lambda _: random.random()):
            try:
                return await self._ask(node, LeafRequest(csr=csr, leaves=tuple(leaves)))
            except OrcaError as error:
                reasons.append(f"{node}: {error.message}")
        raise NotAvailableError(
            "nobody signs certificates for this node: " + ("; ".join(reasons[:3]) or "no member is known to live")
        )

    async def _ask(self, node: NodeId, request: LeafRequest) -> tuple[bytes, ...]:
        answer: LeafAnswer | None = None
        with trio.move_on_after(ANSWER_S):
            async with self._mesh.connect(node, Purpose.CERTIFICATES) as frames:
                await frames.send((msgspec.msgpack.encode(request),))
                try:
                    answer = _answers.decode(await frames.receive())
                except msgspec.MsgspecError as error:
                    raise PeerProtocolError(f"{node} signs in words that are none: {error}") from error
        if answer is None:
            raise NotAvailableError(f"no answer within {ANSWER_S:g} s")
        if answer.error is not None:
            raise from_body(answer.error)
        if len(answer.certificates) != len(request.leaves):
            raise PeerProtocolError(f"{node} signed {len(answer.certificates)} of {len(request.leaves)} certificates")
        return answer.certificates

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """Sign for `peer`, whose identity the mesh has proved."""
        payload = await frames.receive()
        try:
            request = _requests.decode(payload)
        except msgspec.MsgspecError as error:
            raise PeerProtocolError(f"{peer} asks for certificates in words that are none: {error}") from error
        try:
            answer = LeafAnswer(certificates=await self._sign_for(peer, request))
        except OrcaError as error:
            answer = LeafAnswer(error=to_body(error))
        await frames.send((msgspec.msgpack.encode(answer),))

    async def _sign_for(self, peer: NodeId, request: LeafRequest) -> tuple[bytes, ...]:
        if len(request.leaves) > LEAVES_MAX or any(len(names) > NAMES_MAX for names in request.leaves):
            raise InvalidRequestError(f"one request may ask for {LEAVES_MAX} certificates of {NAMES_MAX} names")
        state = self._state()
        right = {*served_domains(state), *own_names(state.nodes.get(peer))}
        sign = partial(sign_all, self._data_keys.ingress_signing(), request.leaves, request.csr, self._clock.wall())
        return await trio.to_thread.run_sync(sign, lambda names: bool(names) and right.issuperset(names))
