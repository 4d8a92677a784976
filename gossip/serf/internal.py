"""Queries between agents: who owns a name, and the keys of the cluster (WIRE §6.6)."""

from collections.abc import Callable
from typing import Final

import msgspec

from gossip.codec import CodecError
from gossip.codec.serf_frames import (
    decode_conflict_member,
    decode_key_request,
    decode_key_response,
    encode_conflict_member,
    encode_key_request,
    encode_key_response,
)
from gossip.effects import Noted, NoteLevel
from gossip.messages import Address, ConflictMember, KeyRequest, KeyResponse, Query
from gossip.serf.config import SerfConfig
from gossip.serf.effects import (
    KeyCommandEnded,
    KeyOperation,
    KeyReport,
    KeyringChanged,
    NameLost,
    RotationEnded,
    RotationProgressed,
)
from gossip.serf.keys import KEY_LENGTHS, NOT_ENCRYPTED, KeyOrder, KeyTally, RingOfKeys, Rotation, perform
from gossip.serf.members import Members, MemberStatus
from gossip.serf.outbox import Outbox
from gossip.serf.queries import INTERNAL_PREFIX, RELAY_FACTOR_MAX, Identity, Queries
from orca.errors import ConflictError, InvalidRequestError, NotAvailableError
from orca.model.units import Instant

CONFLICT_QUERY: Final = "_serf_conflict"
CONFLICT_PAUSE_S: Final = 30.0
"""Two nodes of one name meet in every round of gossip; the cluster need not be asked each time."""
_KEY_OPERATIONS: Final = {INTERNAL_PREFIX + operation.value: operation for operation in KeyOperation}


class InternalQueries:
    """Asks and answers them."""

    def __init__(
        self,
        own: Identity,
        config: SerfConfig,
        queries: Queries,
        members: Members,
        outbox: Outbox,
        keyring: RingOfKeys | None,
    ) -> None:
        self._own = own
        self._config = config
        self._queries = queries
        self._members = members
        self._outbox = outbox
        self._keyring = keyring
        self._rotation: Rotation | None = None
        self._allows_absent = False
        self._conflict_again_at = Instant(float("-inf"))
        queries.answer_internal_by(self._answer)

    def command(self, handle: int, operation: KeyOperation, key: bytes, relay_factor: int, now: Instant) -> None:
        """Run one key operation on all members; `KeyCommandEnded` tells how it went.

        Raises InvalidRequestError for a bad key or without encryption, NotAvailableError when
        too many queries run.
        """
        self._check_key(operation, key)
        if not 0 <= relay_factor <= RELAY_FACTOR_MAX:
            raise InvalidRequestError(f"relay factor {relay_factor} is outside 0 to {RELAY_FACTOR_MAX}")

        def end(report: KeyReport, now: Instant) -> None:
            self._outbox.emit(KeyCommandEnded(handle=handle, report=report))

        self._run(KeyOrder(operation, key), end, now, relay_factor)

    def rotate(self, key: bytes, now: Instant, *, allows_absent: bool) -> None:
        """Start a rotation; raises as `command`, and ConflictError while another one runs here."""
        self._check_key(KeyOperation.INSTALL, key)
        if self._rotation is not None:
            raise ConflictError(f"a key rotation is at step {self._rotation.step.value}; wait until it has ended")
        absent = self._absent()
        if absent and not allows_absent:
            raise InvalidRequestError(
                f"{', '.join(absent)} failed and would not understand the cluster after a key rotation",
                hint="wait for them, remove them with force-leave, or allow it",
            )
        self._rotation = Rotation(key)
        self._allows_absent = allows_absent
        self._rotate_on(self._rotation.order(), now)

    def conflict(self, other: Address, now: Instant) -> None:
        """Somebody at `other` uses our name: let the cluster say whose it is."""
        if now < self._conflict_again_at:
            return
        self._conflict_again_at = Instant(now + CONFLICT_PAUSE_S)
        self._outbox.emit(
            Noted(
                message=f"another node at {other} uses our name {self._own.node!r}; names must be unique",
                level=NoteLevel.WARNING,
            )
        )
        if not self._config.resolves_conflicts:
            return
        sink = _ConflictSink(self._own.address, other, self._outbox)
        try:
            self._queries.ask_internal(CONFLICT_QUERY, self._own.node.encode(), sink, now)
        except NotAvailableError as error:
            self._outbox.emit(Noted(message=f"the owner of our name is not asked for: {error.message}"))

    def _check_key(self, operation: KeyOperation, key: bytes) -> None:
        if self._keyring is None:
            raise InvalidRequestError(NOT_ENCRYPTED, hint="start the cluster with a gossip key")
        if operation is not KeyOperation.LIST and len(key) not in KEY_LENGTHS:
            raise InvalidRequestError(f"a gossip key of {len(key)} bytes cannot be used; it has to be 16, 24 or 32")

    def _run(
        self, order: KeyOrder, end: Callable[[KeyReport, Instant], None], now: Instant, relay_factor: int = 0
    ) -> None:
        living = [member.node for member in self._members.in_status(MemberStatus.ALIVE)]
        sink = _KeySink(KeyTally(order.operation, living), end)
        payload = encode_key_request(KeyRequest(key=order.key))
        self._queries.ask_internal(INTERNAL_PREFIX + order.operation.value, payload, sink, now, relay_factor)

    def _rotate_on(self, order: KeyOrder, now: Instant) -> None:
        try:
            self._run(order, self._rotation_reported, now)
        except (InvalidRequestError, NotAvailableError) as error:
            assert self._rotation is not None, "only a rotation goes on"
            ended = RotationEnded(is_done=False, step=self._rotation.step, reason=error.message)
            self._rotation = None
            self._outbox.emit(ended)

    def _rotation_reported(self, report: KeyReport, now: Instant) -> None:
        rotation = self._rotation
        assert rotation is not None, "a report came without a rotation"
        self._outbox.emit(RotationProgressed(step=rotation.step, attempt=rotation.attempt, report=report))
        move = rotation.after(report, () if self._allows_absent else self._absent())
        if isinstance(move, RotationEnded):
            self._rotation = None
            self._outbox.emit(move)
        else:
            self._rotate_on(move, now)

    def _absent(self) -> list[str]:
        return [member.node for member in self._members.in_status(MemberStatus.FAILED)]

    def _answer(self, query: Query, now: Instant) -> bytes | None:
        """Our answer to an internal query, if it wants one."""
        if query.name == CONFLICT_QUERY:
            return self._owner_of(query.payload)
        operation = _KEY_OPERATIONS.get(query.name)
        if operation is None:  # among them the ping, which is answered by its ack
            return None
        try:
            request = decode_key_request(query.payload)
        except CodecError as error:
            self._outbox.drop(f"key_request_{error.cause}")
            return encode_key_response(KeyResponse(is_success=False, message="the request cannot be read"))
        before = self._held()
        response = perform(self._keyring, operation, request.key)
        if self._held() != before:
            self._outbox.emit(KeyringChanged(keys=self._held()))
        return self._fitted(query, response)

    def _held(self) -> tuple[bytes, ...]:
        return () if self._keyring is None else tuple(self._keyring.keys)

    def _fitted(self, query: Query, response: KeyResponse) -> bytes:
        """As many keys as one answer takes; says so when not all of them do."""
        count = len(response.keys)
        shown = response
        payload = encode_key_response(shown)
        while shown.keys and self._queries.response_bytes(query, payload) > self._config.response_bytes_max:
            keys = shown.keys[:-1]
            message = f"truncated key list response, showing first {len(keys)} of {count} keys"
            shown = msgspec.structs.replace(shown, keys=keys, message=message)
            payload = encode_key_response(shown)
        return payload

    def _owner_of(self, name: bytes) -> bytes | None:
        """Whom we believe to own a name; we say nothing about our own, as a party to the case."""
        node = name.decode("utf-8", "surrogateescape")
        member = self._members.get(node)
        if node == self._own.node or member is None:
            return None
        return encode_conflict_member(
            ConflictMember(
                node=member.node,
                address=member.address,
                tags=member.tags,
                status=member.status.value,
                version=member.version,
            )
        )


class _KeySink:
    """Gathers the answers to one key query."""

    def __init__(self, tally: KeyTally, end: Callable[[KeyReport, Instant], None]) -> None:
        self._tally = tally
        self._end = end

    def answered(self, node: str, payload: bytes, now: Instant) -> bool:
        """One member's answer; True when no more are missing."""
        try:
            response = decode_key_response(payload)
        except CodecError:
            response = None
        self._tally.add(node, response)
        return self._tally.is_settled

    def ended(self, now: Instant) -> None:
        """Report."""
        self._end(self._tally.report(), now)


class _ConflictSink:
    """Counts who believes that our name is ours."""

    def __init__(self, own: Address, other: Address, outbox: Outbox) -> None:
        self._own = own
        self._other = other
        self._outbox = outbox
        self._matching = 0
        self._answers = 0

    def answered(self, node: str, payload: bytes, now: Instant) -> bool:
        """One vote."""
        try:
            member = decode_conflict_member(payload)
        except CodecError as error:
            self._outbox.drop(f"conflict_{error.cause}")
            return False
        self._answers += 1
        self._matching += member.address == self._own
        return False

    def ended(self, now: Instant) -> None:
        """Decide: the name stays ours with a majority of the answers, and when nobody answered."""
        if self._answers == 0 or self._matching >= self._answers // 2 + 1:
            said = f"{self._matching} of {self._answers} answers say that our name is ours: we keep it"
            self._outbox.emit(Noted(message=said))
            return
        self._outbox.emit(NameLost(owner=self._other, matching=self._matching, answers=self._answers))
