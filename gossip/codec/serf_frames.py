"""What Serf puts into user messages: a type byte and a body (WIRE.md §6)."""

from collections.abc import Callable
from typing import Any, Final

import msgpack

from gossip.codec.dialect import (
    CodecError,
    Fields,
    as_fields,
    blob,
    flag,
    host_bytes,
    host_text,
    pack,
    text,
    to_raw,
    uint,
    unpack,
)
from gossip.messages import (
    Address,
    ConflictMember,
    CoordinatePayload,
    Filter,
    JoinIntent,
    KeyRequest,
    KeyResponse,
    LeaveIntent,
    NodeFilter,
    PastEvent,
    PastEvents,
    Query,
    QueryResponse,
    Relay,
    SerfMessage,
    SerfState,
    TagFilter,
    UserEvent,
)

LEAVE: Final = 0
JOIN: Final = 1
PUSH_PULL: Final = 2
USER_EVENT: Final = 3
QUERY: Final = 4
QUERY_RESPONSE: Final = 5
CONFLICT_RESPONSE: Final = 6
KEY_REQUEST: Final = 7
KEY_RESPONSE: Final = 8
RELAY: Final = 9

RING_SLOTS: Final = 512
MEMBERS_MAX: Final = 32_768
EVENTS_PER_SLOT_MAX: Final = 4096
FILTERS_MAX: Final = 64
FILTER_NODES_MAX: Final = 1024
TAGS_MAX: Final = 256
KEYS_MAX: Final = 64
TEXT_BYTES_MAX: Final = 9 * 1024
"""Serf's hard limit on a user event."""
DIMENSIONS: Final = 8
COORDINATE_VERSION: Final = 1
_TAGS_MARK: Final = 0xFF
_ACK_FLAG: Final = 1
_LOCAL_ONLY_FLAG: Final = 2


def encode_serf(message: SerfMessage) -> bytes:
    """Serf's type byte and the body; memberlist's own type byte goes in front of it."""
    match message:
        case LeaveIntent():
            return b"\x00" + pack({"LTime": message.ltime, "Node": to_raw(message.node), "Prune": message.is_prune})
        case JoinIntent():
            return b"\x01" + pack({"LTime": message.ltime, "Node": to_raw(message.node)})
        case SerfState():
            return b"\x02" + _state(message)
        case UserEvent():
            fields = {"Name": to_raw(message.name), "Payload": message.payload, "CC": message.is_coalescable}
            return b"\x03" + pack({"LTime": message.ltime, **fields})
        case Query():
            return b"\x04" + _query(message)
        case QueryResponse():
            fields = {"From": to_raw(message.node), "Flags": int(message.is_ack), "Payload": message.payload}
            return b"\x05" + pack({"LTime": message.ltime, "ID": message.query_id, **fields})
        case Relay():
            address = {"IP": host_bytes(message.target.host), "Port": message.target.port, "Zone": b""}
            head = pack({"DestAddr": address, "DestName": to_raw(message.target_node)})
            return b"\x09" + head + message.message


def decode_serf(payload: bytes) -> SerfMessage:
    """The Serf message in `payload`; raises CodecError."""
    if not payload:
        raise CodecError("empty")
    if payload[0] == RELAY:
        return _read_relay(payload[1:])
    decode = _DECODERS.get(payload[0])
    if decode is None:
        raise CodecError("unknown_type", f"type {payload[0]}")
    return decode(unpack(memoryview(payload)[1:]))


def _state(message: SerfState) -> bytes:
    events = [
        {
            "Events": [{"Name": to_raw(event.name), "Payload": event.payload} for event in slot.events],
            "LTime": slot.ltime,
        }
        for slot in message.events
    ]
    return pack(
        {
            "LTime": message.ltime,
            "StatusLTimes": {to_raw(node): ltime for node, ltime in message.status_ltimes.items()},
            "LeftMembers": [to_raw(node) for node in message.left_members],
            "EventLTime": message.event_ltime,
            "Events": events,
            "QueryLTime": message.query_ltime,
        }
    )


def _query(message: Query) -> bytes:
    flags = _ACK_FLAG * message.wants_ack | _LOCAL_ONLY_FLAG * message.is_local_only
    return pack(
        {
            "LTime": message.ltime,
            "ID": message.query_id,
            "Addr": host_bytes(message.source.host),
            "Port": message.source.port,
            "SourceNode": to_raw(message.source_node),
            "Filters": [_filter(one) for one in message.filters] or None,
            "Flags": flags,
            "RelayFactor": message.relay_factor,
            "Timeout": message.timeout_ns,
            "Name": to_raw(message.name),
            "Payload": message.payload,
        }
    )


def _filter(one: Filter) -> bytes:
    if isinstance(one, NodeFilter):
        nodes: bytes = msgpack.packb([to_raw(node) for node in one.nodes], use_bin_type=False)
        return b"\x00" + nodes
    return b"\x01" + pack({"Tag": to_raw(one.tag), "Expr": to_raw(one.expression)})


def _sequence(fields: Fields, key: bytes, count_max: int) -> tuple[Any, ...]:
    value = fields.get(key)
    if value is None:
        return ()
    if not isinstance(value, tuple) or len(value) > count_max:
        raise CodecError("bad_list", f"{key.decode()} is no list of at most {count_max}")
    return value


def _name(value: object) -> str:
    return text({b"name": value}, b"name")


def _read_leave(fields: Fields) -> LeaveIntent:
    return LeaveIntent(ltime=uint(fields, b"LTime", 64), node=text(fields, b"Node"), is_prune=flag(fields, b"Prune"))


def _read_join(fields: Fields) -> JoinIntent:
    return JoinIntent(ltime=uint(fields, b"LTime", 64), node=text(fields, b"Node"))


def _read_state(fields: Fields) -> SerfState:
    times = fields.get(b"StatusLTimes")
    if times is not None and (not isinstance(times, dict) or len(times) > MEMBERS_MAX):
        raise CodecError("bad_list", "the times of members cannot be read")
    slots = []
    for slot in _sequence(fields, b"Events", RING_SLOTS):
        if slot is None:
            continue
        inner = as_fields(slot)
        events = tuple(
            PastEvent(name=text(event, b"Name", TEXT_BYTES_MAX), payload=blob(event, b"Payload"))
            for event in map(as_fields, _sequence(inner, b"Events", EVENTS_PER_SLOT_MAX))
        )
        slots.append(PastEvents(ltime=uint(inner, b"LTime", 64), events=events))
    return SerfState(
        ltime=uint(fields, b"LTime", 64),
        status_ltimes={_name(node): uint({b"ltime": ltime}, b"ltime", 64) for node, ltime in (times or {}).items()},
        left_members=tuple(_name(node) for node in _sequence(fields, b"LeftMembers", MEMBERS_MAX)),
        event_ltime=uint(fields, b"EventLTime", 64),
        events=tuple(slots),
        query_ltime=uint(fields, b"QueryLTime", 64),
    )


def _read_user_event(fields: Fields) -> UserEvent:
    return UserEvent(
        ltime=uint(fields, b"LTime", 64),
        name=text(fields, b"Name", TEXT_BYTES_MAX),
        payload=blob(fields, b"Payload"),
        is_coalescable=flag(fields, b"CC"),
    )


def _read_query(fields: Fields) -> Query:
    flags = uint(fields, b"Flags")
    return Query(
        ltime=uint(fields, b"LTime", 64),
        query_id=uint(fields, b"ID"),
        source=Address(host_text(blob(fields, b"Addr")), uint(fields, b"Port", 16)),
        source_node=text(fields, b"SourceNode"),
        filters=tuple(_read_filter(one) for one in _sequence(fields, b"Filters", FILTERS_MAX)),
        wants_ack=bool(flags & _ACK_FLAG),
        is_local_only=bool(flags & _LOCAL_ONLY_FLAG),
        relay_factor=uint(fields, b"RelayFactor", 8),
        timeout_ns=uint(fields, b"Timeout", 63),
        name=text(fields, b"Name", TEXT_BYTES_MAX),
        payload=blob(fields, b"Payload"),
    )


def _read_filter(value: object) -> Filter:
    if not isinstance(value, bytes) or not value:
        raise CodecError("bad_filter")
    if value[0] == 0:
        nodes = unpack(b"\x81\xa1n" + value[1:])
        return NodeFilter(nodes=tuple(_name(node) for node in _sequence(nodes, b"n", FILTER_NODES_MAX)))
    if value[0] == 1:
        fields = unpack(value[1:])
        return TagFilter(tag=text(fields, b"Tag"), expression=text(fields, b"Expr"))
    raise CodecError("bad_filter", f"a filter of type {value[0]}")


def _read_response(fields: Fields) -> QueryResponse:
    return QueryResponse(
        ltime=uint(fields, b"LTime", 64),
        query_id=uint(fields, b"ID"),
        node=text(fields, b"From"),
        is_ack=bool(uint(fields, b"Flags") & _ACK_FLAG),
        payload=blob(fields, b"Payload"),
    )


def _read_relay(body: bytes) -> Relay:
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, use_list=False, max_buffer_size=max(1, len(body)))
    unpacker.feed(body)
    try:
        head = as_fields(unpacker.unpack())
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise CodecError("bad_msgpack", str(error)) from error
    address = as_fields(head.get(b"DestAddr"))
    target = Address(host_text(blob(address, b"IP")), uint(address, b"Port", 16))
    return Relay(target=target, target_node=text(head, b"DestName"), message=body[unpacker.tell() :])


_DECODERS: Final[dict[int, Callable[[Fields], SerfMessage]]] = {
    LEAVE: _read_leave,
    JOIN: _read_join,
    PUSH_PULL: _read_state,
    USER_EVENT: _read_user_event,
    QUERY: _read_query,
    QUERY_RESPONSE: _read_response,
}


def encode_tags(tags: dict[str, str]) -> bytes:
    """A member's meta: `ff` and a map."""
    packed: bytes = msgpack.packb(
        {to_raw(key): to_raw(value) for key, value in sorted(tags.items())}, use_bin_type=False
    )
    return bytes((_TAGS_MARK,)) + packed


def decode_tags(meta: bytes) -> dict[str, str]:
    """The tags in a member's meta; a bare text is the role, as before Serf had tags."""
    if not meta:
        return {}
    if meta[0] != _TAGS_MARK:
        return {"role": meta.decode("utf-8", "surrogateescape")}
    fields = unpack(memoryview(meta)[1:])
    if len(fields) > TAGS_MAX:
        raise CodecError("too_many", f"{len(fields)} tags")
    return {_name(key): text({b"value": value}, b"value", TEXT_BYTES_MAX) for key, value in fields.items()}


def encode_key_request(request: KeyRequest) -> bytes:
    """The payload of a key query."""
    return bytes((KEY_REQUEST,)) + pack({"Key": request.key})


def decode_key_request(payload: bytes) -> KeyRequest:
    """What a key query asks; raises CodecError."""
    return KeyRequest(key=blob(_body(payload, KEY_REQUEST), b"Key"))


def encode_key_response(response: KeyResponse) -> bytes:
    """The payload of the answer to a key query."""
    return bytes((KEY_RESPONSE,)) + pack(
        {
            "Result": response.is_success,
            "Message": to_raw(response.message),
            "Keys": [to_raw(key) for key in response.keys] or None,
            "PrimaryKey": to_raw(response.primary_key),
        }
    )


def decode_key_response(payload: bytes) -> KeyResponse:
    """What a member answered to a key query; raises CodecError."""
    fields = _body(payload, KEY_RESPONSE)
    return KeyResponse(
        is_success=flag(fields, b"Result"),
        message=text(fields, b"Message", TEXT_BYTES_MAX),
        keys=tuple(_name(key) for key in _sequence(fields, b"Keys", KEYS_MAX)),
        primary_key=text(fields, b"PrimaryKey"),
    )


def encode_conflict_member(member: ConflictMember) -> bytes:
    """The payload of the answer to a conflict query: Serf's own struct of a member."""
    version = member.version + bytes(6 - len(member.version))
    names = ("ProtocolMin", "ProtocolMax", "ProtocolCur", "DelegateMin", "DelegateMax", "DelegateCur")
    return bytes((CONFLICT_RESPONSE,)) + pack(
        {
            "Name": to_raw(member.node),
            "Addr": host_bytes(member.address.host),
            "Port": member.address.port,
            "Tags": {to_raw(key): to_raw(value) for key, value in member.tags.items()},
            "Status": member.status,
            **dict(zip(names, version, strict=True)),
        }
    )


def decode_conflict_member(payload: bytes) -> ConflictMember:
    """Whom a member believes to own a name; raises CodecError."""
    fields = _body(payload, CONFLICT_RESPONSE)
    tags = as_fields(fields.get(b"Tags") or {})
    names = (b"ProtocolMin", b"ProtocolMax", b"ProtocolCur", b"DelegateMin", b"DelegateMax", b"DelegateCur")
    return ConflictMember(
        node=text(fields, b"Name"),
        address=Address(host_text(blob(fields, b"Addr")), uint(fields, b"Port", 16)),
        tags={_name(key): text({b"value": value}, b"value", TEXT_BYTES_MAX) for key, value in tags.items()},
        status=uint(fields, b"Status", 8),
        version=bytes(uint(fields, name, 8) for name in names),
    )


def _body(payload: bytes, kind: int) -> Fields:
    if not payload or payload[0] != kind:
        raise CodecError("unknown_type", f"type {payload[:1].hex() or 'none'} where {kind:02x} belongs")
    return unpack(memoryview(payload)[1:])


def encode_coordinate(coordinate: CoordinatePayload) -> bytes:
    """The payload of an ack."""
    return bytes((COORDINATE_VERSION,)) + pack(
        {
            "Vec": coordinate.vector,
            "Error": coordinate.error,
            "Adjustment": coordinate.adjustment,
            "Height": coordinate.height,
        }
    )


def decode_coordinate(payload: bytes) -> CoordinatePayload:
    """The coordinate in an ack; raises CodecError. Its numbers may be anything."""
    if payload[:1] != bytes((COORDINATE_VERSION,)):
        raise CodecError("coordinate_version", f"version {payload[:1].hex() or 'none'} of coordinates")
    fields = unpack(memoryview(payload)[1:])
    vector = _sequence(fields, b"Vec", DIMENSIONS)
    return CoordinatePayload(
        vector=tuple(_number(value) for value in vector),
        error=_number(fields.get(b"Error")),
        adjustment=_number(fields.get(b"Adjustment")),
        height=_number(fields.get(b"Height")),
    )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CodecError("bad_number", f"{value!r:.40} is no number")
    try:
        return float(value)
    except OverflowError as error:
        raise CodecError("bad_number") from error
