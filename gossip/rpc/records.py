"""Bodies of replies and records of streams, both ways."""

from collections.abc import Mapping
from typing import Final, TypeAlias, assert_never

from gossip.codec.dialect import as_fields, blob, flag, host_bytes, host_text, text, uint
from gossip.membership import (
    Acked,
    Answered,
    EventReceived,
    Finished,
    KeyOperation,
    KeyReport,
    Member,
    MembersChanged,
    MembershipNews,
    MemberStatus,
    QueryNews,
    QueryReceived,
    StatusChange,
)
from gossip.messages import Address, CoordinatePayload
from gossip.rpc.protocol import CodecError, Fields, pack_list_head, pack_map_head, pack_value
from gossip.rpc.requests import plain_map

EVENT_OF: Final[Mapping[StatusChange, str]] = {
    StatusChange.JOINED: "member-join",
    StatusChange.LEFT: "member-leave",
    StatusChange.FAILED: "member-failed",
    StatusChange.UPDATED: "member-update",
    StatusChange.REAPED: "member-reap",
}
USER_EVENT: Final = "user"
QUERY_EVENT: Final = "query"
_CHANGES: Final = {words: change for change, words in EVENT_OF.items()}
_STATUSES: Final = {status.name.lower(): status for status in MemberStatus}
_STATUS_NONE: Final = "none"
_VERSION_KEYS: Final = ("ProtocolMin", "ProtocolMax", "ProtocolCur", "DelegateMin", "DelegateMax", "DelegateCur")
_LOG_BYTES_MAX: Final = 64 * 1024
_STATS_BYTES_MAX: Final = 64 * 1024

Stats: TypeAlias = dict[str, dict[str, str]]


def encode_member(member: Member) -> bytes:
    """One member; lists of them are built piece by piece, because they may be long."""
    version = member.version.ljust(len(_VERSION_KEYS), b"\0")
    fields: dict[str, object] = {
        "Name": member.node,
        "Addr": host_bytes(member.address.host),
        "Port": member.address.port,
        "Tags": member.tags,
        "Status": member.status.name.lower(),
    }
    fields |= {key: version[place] for place, key in enumerate(_VERSION_KEYS)}
    return pack_value(fields)


def encode_members_head(count: int) -> bytes:
    """The start of the body of a reply to `members`; `count` encoded members make it whole."""
    return pack_map_head(1) + pack_value("Members") + pack_list_head(count)


def decode_member(value: object) -> Member:
    """One member."""
    fields = as_fields(value)
    words = text(fields, b"Status")
    # An agent says "none" of members that it is just forgetting.
    status = MemberStatus.LEFT if words == _STATUS_NONE else _STATUSES.get(words)
    if status is None:
        raise CodecError("bad_status", f"a member is {words!r:.40}")
    return Member(
        node=text(fields, b"Name"),
        address=Address(host_text(blob(fields, b"Addr")), uint(fields, b"Port", 16)),
        tags=plain_map(fields.get(b"Tags"), b"Tags"),
        status=status,
        version=bytes(uint(fields, key.encode(), 8) for key in _VERSION_KEYS),
    )


def member_values(fields: Fields) -> tuple[object, ...]:
    """The members in a body, each for `decode_member`."""
    value = fields.get(b"Members")
    if value is None:
        return ()
    if not isinstance(value, tuple):
        raise CodecError("bad_list", f"Members is {value!r:.40}")
    return value


def encode_joined(count: int) -> bytes:
    """The body of a reply to a join."""
    return pack_value({"Num": count})


def decode_joined(fields: Fields) -> int:
    """How many were joined."""
    return uint(fields, b"Num", 31)


def encode_key_report(report: KeyReport) -> bytes:
    """The body of a reply to any key command."""
    return pack_value(
        {
            "Messages": report.failures,
            "Keys": report.keys,
            "PrimaryKeys": report.primary_keys,
            "NumNodes": report.expected,
            "NumErr": len(report.failures),
            "NumResp": report.answered,
        }
    )


def decode_key_report(operation: KeyOperation, fields: Fields) -> KeyReport:
    """What became of a key command. An agent does not name who is silent: compare `answered` with `expected`."""
    return KeyReport(
        operation=operation,
        expected=uint(fields, b"NumNodes", 31),
        answered=uint(fields, b"NumResp", 31),
        failures=plain_map(fields.get(b"Messages"), b"Messages"),
        silent=(),
        keys=_counts(fields, b"Keys"),
        primary_keys=_counts(fields, b"PrimaryKeys"),
    )


def key_complaint(report: KeyReport) -> str:
    """The error in the header of a reply to a key command; Serf's words, empty when all went well."""
    if report.failures:
        return f"{len(report.failures)}/{report.expected} nodes reported failure"
    if report.answered < report.expected:
        return f"{report.answered}/{report.expected} nodes reported success"
    return ""


def encode_stats(stats: Mapping[str, Mapping[str, str]]) -> bytes:
    """The body of a reply to `stats`."""
    return pack_value({section: dict(values) for section, values in stats.items()})


def decode_stats(fields: Fields) -> Stats:
    """What an agent counts, by section."""
    found: Stats = {}
    for section, values in fields.items():
        if type(section) is not bytes:
            raise CodecError("bad_text", f"a section of the statistics is named {section!r:.40}")
        found[section.decode("utf-8", "surrogateescape")] = plain_map(values, b"stats", _STATS_BYTES_MAX)
    return found


def encode_coordinate(coordinate: CoordinatePayload | None) -> bytes:
    """The body of a reply to `get-coordinate`."""
    known = coordinate or CoordinatePayload(vector=(), error=0.0, adjustment=0.0, height=0.0)
    fields = {
        "Vec": known.vector,
        "Error": float(known.error),
        "Adjustment": float(known.adjustment),
        "Height": float(known.height),
    }
    return pack_value({"Coord": fields, "Ok": coordinate is not None})


def decode_coordinate(fields: Fields) -> CoordinatePayload | None:
    """Where a node is, None when the agent does not know it."""
    if not flag(fields, b"Ok"):
        return None
    found = as_fields(fields.get(b"Coord"))
    vector = found.get(b"Vec")
    if not isinstance(vector, tuple):
        raise CodecError("bad_list", f"Vec is {vector!r:.40}")
    return CoordinatePayload(
        vector=tuple(_number(one, b"Vec") for one in vector),
        error=_number(found.get(b"Error"), b"Error"),
        adjustment=_number(found.get(b"Adjustment"), b"Adjustment"),
        height=_number(found.get(b"Height"), b"Height"),
    )


def encode_news(news: MembershipNews) -> bytes:
    """A record of an event stream."""
    match news:
        case MembersChanged():
            head = pack_map_head(2) + pack_value("Event") + pack_value(EVENT_OF[news.change]) + pack_value("Members")
            members = b"".join(map(encode_member, news.members))
            return head + pack_list_head(len(news.members)) + members
        case EventReceived():
            return pack_value(
                {
                    "Event": USER_EVENT,
                    "LTime": news.ltime,
                    "Name": news.name,
                    "Payload": news.payload,
                    "Coalesce": news.is_coalescable,
                }
            )
        case QueryReceived():
            return pack_value(
                {
                    "Event": QUERY_EVENT,
                    "ID": news.query_id,
                    "LTime": news.ltime,
                    "Name": news.name,
                    "Payload": news.payload,
                }
            )
        case _:
            assert_never(news)


def decode_news(fields: Fields) -> MembershipNews:
    """What a record of an event stream tells."""
    event = text(fields, b"Event")
    if event == USER_EVENT:
        return EventReceived(
            ltime=uint(fields, b"LTime", 64),
            name=text(fields, b"Name"),
            payload=blob(fields, b"Payload"),
            is_coalescable=flag(fields, b"Coalesce"),
        )
    if event == QUERY_EVENT:
        return QueryReceived(
            query_id=uint(fields, b"ID", 64),
            ltime=uint(fields, b"LTime", 64),
            name=text(fields, b"Name"),
            payload=blob(fields, b"Payload"),
        )
    change = _CHANGES.get(event)
    if change is None:
        raise CodecError("unknown_event", f"an event stream tells of {event!r:.40}")
    return MembersChanged(change=change, members=tuple(decode_member(value) for value in member_values(fields)))


def encode_query_news(news: QueryNews) -> bytes:
    """A record of a query's stream."""
    match news:
        case Acked():
            return pack_value({"Type": "ack", "From": news.node, "Payload": None})
        case Answered():
            return pack_value({"Type": "response", "From": news.node, "Payload": news.payload})
        case Finished():
            return pack_value({"Type": "done", "From": "", "Payload": None})
        case _:
            assert_never(news)


def decode_query_news(fields: Fields) -> QueryNews:
    """What a record of a query's stream tells."""
    kind = text(fields, b"Type")
    match kind:
        case "ack":
            return Acked(text(fields, b"From"))
        case "response":
            return Answered(text(fields, b"From"), blob(fields, b"Payload"))
        case "done":
            return Finished()
        case _:
            raise CodecError("unknown_record", f"a query streams {kind!r:.40}")


def encode_log(line: str) -> bytes:
    """A record of a log stream."""
    return pack_value({"Log": line})


def decode_log(fields: Fields) -> str:
    """A line of the agent's log, without its end."""
    return text(fields, b"Log", _LOG_BYTES_MAX).rstrip("\n")


def _counts(fields: Fields, key: bytes) -> dict[str, int]:
    value = fields.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CodecError("bad_map", f"{key.decode()} is {value!r:.40}")
    found: dict[str, int] = {}
    for name, count in value.items():
        if type(name) is not bytes or type(count) is not int or count < 0:
            raise CodecError("bad_number", f"{key.decode()} counts {name!r:.40} as {count!r:.40}")
        found[name.decode("utf-8", "surrogateescape")] = count
    return found


def _number(value: object, key: bytes) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise CodecError("bad_number", f"{key.decode()} is {value!r:.40}")
    return float(value)
