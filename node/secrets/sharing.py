"""Secrets for nodes that cannot open them: a worker asks a member, which answers for the worker's own copies only."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
import structlog
import trio

from consensus.state.cluster import ClusterState
from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.secrets.values import AskPeers, SecretValues
from orca.errors import ErrorBody, ForbiddenError, NotAvailableError, OrcaError, PeerProtocolError, from_body, to_body
from orca.model.allocation import DesiredStatus
from orca.model.ids import AllocationId, NodeId, SecretId, ServiceId
from orca.model.secrets import find_secret, ingress_secrets_of, secrets_of
from orca.model.spec import ServiceSpec

_log = structlog.get_logger("orca.secrets")
ANSWER_S: Final = 5.0
SECRETS_MAX: Final = 2_000


class SecretRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The values of `secrets`, for `allocation`, which runs on the node that asks, or for the ingress of `service`."""

    allocation: AllocationId = AllocationId("")
    service: ServiceId = ServiceId("")
    secrets: tuple[SecretId, ...]


class SecretAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All values, or why there are none."""

    values: dict[SecretId, bytes] = {}
    error: ErrorBody | None = None

    def __repr__(self) -> str:
        return f"SecretAnswer(values of {sorted(self.values)}, error={self.error})"


_requests = msgspec.msgpack.Decoder(SecretRequest)
_answers = msgspec.msgpack.Decoder(SecretAnswer)


def check_right(state: ClusterState, peer: NodeId, request: SecretRequest) -> None:
    """Raise ForbiddenError unless `peer` is to run that copy, and the copy's spec uses those secrets. Pure.

    What the ingress of a service uses every node gets: each of them serves every domain.
    """
    if request.service:
        record = state.services.get(request.service)
        spec = None if record is None else record.spec
        _check_used(state, peer, request, spec, () if spec is None else ingress_secrets_of(spec))
        return
    allocation = state.allocations.get(request.allocation)
    if allocation is None or allocation.node != peer or allocation.desired is not DesiredStatus.RUNNING:
        raise ForbiddenError(f"{peer} is not to run {request.allocation}, so it gets no secrets for it")
    own = state.spec_of(allocation)
    _check_used(state, peer, request, own, secrets_of(own))


def _check_used(
    state: ClusterState, peer: NodeId, request: SecretRequest, spec: ServiceSpec | None, names: tuple[str, ...]
) -> None:
    """Raise ForbiddenError unless `names`, as `spec` means them, are all that is asked for."""
    exists = state.secrets.__contains__
    used = set() if spec is None else {find_secret(spec.project, name, exists) for name in names}
    foreign = [secret for secret in request.secrets if secret not in used]
    if foreign:
        user = request.service if spec is None else spec.id
        raise ForbiddenError(f"{user} does not use the secret {foreign[0]}, so {peer} does not get it")


class SecretSharing(AskPeers):
    """Both ends. `members` gives the living nodes that have a data key, without this one."""

    def __init__(
        self, state: Callable[[], ClusterState], mesh: Mesh, *, members: Callable[[], Iterable[NodeId]]
    ) -> None:
        self._state = state
        self._mesh = mesh
        self._members = members
        self.values: SecretValues | None = None
        """What opens here; set before anything runs."""

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """Answer one request of `peer`, whose identity the mesh has proved."""
        try:
            request = _requests.decode(await frames.receive())
        except msgspec.MsgspecError as error:
            raise PeerProtocolError(f"{peer} asks for secrets in words that are none: {error}") from error
        try:
            answer = SecretAnswer(values=self._open(peer, request))
        except OrcaError as error:
            _log.warning("a peer was refused secrets", peer=peer, reason=error.message)
            answer = SecretAnswer(error=to_body(error))
        with trio.move_on_after(ANSWER_S):
            await frames.send((msgspec.msgpack.encode(answer),))

    def _open(self, peer: NodeId, request: SecretRequest) -> dict[SecretId, bytes]:
        assert self.values is not None, "set before anything runs"
        if len(request.secrets) > SECRETS_MAX:
            raise ForbiddenError(f"one request may ask for {SECRETS_MAX} secrets, not {len(request.secrets)}")
        check_right(self._state(), peer, request)
        return {secret: self.values.open(secret) for secret in request.secrets}

    async def ask(self, allocation: AllocationId, secrets: tuple[SecretId, ...]) -> Mapping[SecretId, bytes]:
        """The values of all of `secrets` from the first member that gives them. Raises NotAvailableError."""
        return await self._ask_any(SecretRequest(allocation=allocation, secrets=secrets))

    async def ask_for_ingress(self, service: ServiceId, secrets: tuple[SecretId, ...]) -> Mapping[SecretId, bytes]:
        """The same of what the ingress needs for `service`."""
        return await self._ask_any(SecretRequest(service=service, secrets=secrets))

    async def _ask_any(self, asked: SecretRequest) -> Mapping[SecretId, bytes]:
        reasons = []
        request, secrets = msgspec.msgpack.encode(asked), asked.secrets
        for node in sorted(self._members(), key=lambda _node: random.random()):
            try:
                return await self._ask_one(node, request, secrets)
            except OrcaError as error:
                reasons.append(f"{node}: {error.message}")
        raise NotAvailableError("; ".join(reasons) or "no other node that has the data key is known to live")

    async def _ask_one(self, node: NodeId, request: bytes, secrets: tuple[SecretId, ...]) -> Mapping[SecretId, bytes]:
        with trio.move_on_after(ANSWER_S):
            async with self._mesh.connect(node, Purpose.SECRETS) as frames:
                await frames.send((request,))
                try:
                    answer = _answers.decode(await frames.receive())
                except msgspec.MsgspecError as error:
                    raise PeerProtocolError(f"{node} answers in words that are none") from error
            if answer.error is not None:
                raise from_body(answer.error)
            if not set(secrets) <= set(answer.values):
                raise PeerProtocolError(f"{node} gave some of the secrets and not all")
            return answer.values
        raise NotAvailableError(f"no answer within {ANSWER_S:g} s")
