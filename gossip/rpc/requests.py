"""The twenty commands of Serf's RPC as structs, and their bodies on the wire."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from gossip.codec.dialect import blob, flag, text, uint
from gossip.membership import KeyOperation, Question
from gossip.messages import Filter, NodeFilter, TagFilter
from gossip.rpc.protocol import COMMANDS_WITH_BODY, CodecError, Fields, RequestHeader, encode_request_header, pack_value

TEXT_BYTES_MAX: Final = 4096
"""For names, tags, addresses and expressions; each is judged again by whoever acts on it."""
_NS_PER_S: Final = 1_000_000_000


class Handshake(msgspec.Struct, frozen=True, kw_only=True):
    """The first request of a connection."""

    version: int


class Auth(msgspec.Struct, frozen=True, kw_only=True):
    """The second one, where the agent has a key."""

    key: str


class SendEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Tell everybody."""

    name: str
    payload: bytes = b""
    is_coalescable: bool = False


class ForceLeave(msgspec.Struct, frozen=True, kw_only=True):
    """Declare a failed member gone; `is_prune` forgets it at once."""

    node: str
    is_prune: bool = False


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """Meet whoever answers at these addresses."""

    addresses: tuple[str, ...]
    is_replaying: bool = False


class ListMembers(msgspec.Struct, frozen=True, kw_only=True):
    """All members."""


class FilterMembers(msgspec.Struct, frozen=True, kw_only=True):
    """The members whom all of these expressions match as a whole; empty ones match everybody."""

    tags: Mapping[str, str] = {}
    status: str = ""
    node: str = ""


class FollowEvents(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of what happens; `kinds` is Serf's filter, such as `member-join,user:deploy`."""

    kinds: str = "*"


class FollowLog(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of the agent's log from `level` upwards."""

    level: str


class StopStream(msgspec.Struct, frozen=True, kw_only=True):
    """End the stream that request `seq` began."""

    seq: int


class LeaveCluster(msgspec.Struct, frozen=True, kw_only=True):
    """Leave gracefully; a Serf agent then ends."""


class ChangeKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Do one thing to the keyrings of all members; `key` is base64, and empty for a listing."""

    operation: KeyOperation
    key: str = ""


class ChangeTags(msgspec.Struct, frozen=True, kw_only=True):
    """Take away the tags `removed`, then set `tags`."""

    tags: Mapping[str, str] = {}
    removed: tuple[str, ...] = ()


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Ask everybody, and stream what comes back."""

    question: Question


class Respond(msgspec.Struct, frozen=True, kw_only=True):
    """Answer a query that came by an event stream of this connection."""

    query_id: int
    payload: bytes = b""


class ReadStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent counts."""


class ReadCoordinate(msgspec.Struct, frozen=True, kw_only=True):
    """Where a node is in Vivaldi's space."""

    node: str


Streaming: TypeAlias = FollowEvents | FollowLog | Ask
Request: TypeAlias = (
    Handshake
    | Auth
    | SendEvent
    | ForceLeave
    | Join
    | ListMembers
    | FilterMembers
    | Streaming
    | StopStream
    | LeaveCluster
    | ChangeKeys
    | ChangeTags
    | Respond
    | ReadStats
    | ReadCoordinate
)
_COMMANDS: Final[Mapping[type[Request], str]] = {
    Handshake: "handshake",
    Auth: "auth",
    SendEvent: "event",
    ForceLeave: "force-leave",
    Join: "join",
    ListMembers: "members",
    FilterMembers: "members-filtered",
    FollowEvents: "stream",
    FollowLog: "monitor",
    StopStream: "stop",
    LeaveCluster: "leave",
    ChangeTags: "tags",
    Ask: "query",
    Respond: "respond",
    ReadStats: "stats",
    ReadCoordinate: "get-coordinate",
}


def command_of(request: Request) -> str:
    """Its name on the wire."""
    if isinstance(request, ChangeKeys):
        return request.operation.value
    return _COMMANDS[type(request)]


def encode_request(seq: int, request: Request) -> bytes:
    """Header and body."""
    command = command_of(request)
    head = encode_request_header(RequestHeader(command, seq))
    return head + pack_value(_body(request)) if command in COMMANDS_WITH_BODY else head


def decode_request(command: str, fields: Fields) -> Request:
    """The request `command` with this body, which is empty where it has none."""
    reader = _READERS.get(command)
    if reader is None:
        raise CodecError("unknown_command", f"no command {command!r:.80}")
    return reader(fields)


def is_command(command: str) -> bool:
    """Whether there is such a command."""
    return command in _READERS


def key_text(key: bytes) -> str:
    """A key as the wire has it."""
    return base64.b64encode(key).decode("ascii")


def key_bytes(words: str) -> bytes:
    """A key from the wire; ValueError when it is no base64."""
    try:
        return base64.b64decode(words.encode("ascii", "strict"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"the key is no base64: {error}") from error


def _body(request: Request) -> dict[str, object]:  # noqa: C901, PLR0911, PLR0912 - one case a command
    match request:
        case Handshake():
            return {"Version": request.version}
        case Auth():
            return {"AuthKey": request.key}
        case SendEvent():
            return {"Name": request.name, "Payload": request.payload, "Coalesce": request.is_coalescable}
        case ForceLeave():
            return {"Node": request.node, "Prune": request.is_prune}
        case Join():
            return {"Existing": request.addresses, "Replay": request.is_replaying}
        case FilterMembers():
            return {"Tags": dict(request.tags), "Status": request.status, "Name": request.node}
        case FollowEvents():
            return {"Type": request.kinds}
        case FollowLog():
            return {"LogLevel": request.level}
        case StopStream():
            return {"Stop": request.seq}
        case ChangeKeys():
            return {"Key": request.key}
        case ChangeTags():
            return {"Tags": dict(request.tags), "DeleteTags": request.removed}
        case Ask(question=question):
            return _question_body(question)
        case Respond():
            return {"ID": request.query_id, "Payload": request.payload}
        case ReadCoordinate():
            return {"Node": request.node}
        case ListMembers() | LeaveCluster() | ReadStats():
            return {}
        case _:
            assert_never(request)


def _question_body(question: Question) -> dict[str, object]:
    nodes: list[str] = []
    tags: dict[str, str] = {}
    for one in question.filters:
        match one:
            case NodeFilter():
                nodes += one.nodes
            case TagFilter():
                tags[one.tag] = one.expression
            case _:
                assert_never(one)
    return {
        "FilterNodes": nodes,
        "FilterTags": tags,
        "RequestAck": question.wants_ack,
        "RelayFactor": question.relay_factor,
        "Timeout": int(question.timeout_s * _NS_PER_S),
        "Name": question.name,
        "Payload": question.payload,
    }


def _read_question(fields: Fields) -> Ask:
    nodes = texts(fields, b"FilterNodes")
    filters: list[Filter] = [NodeFilter(nodes=nodes)] if nodes else []
    filters += [TagFilter(tag=tag, expression=words) for tag, words in text_map(fields, b"FilterTags").items()]
    question = Question(
        name=text(fields, b"Name", TEXT_BYTES_MAX),
        payload=blob(fields, b"Payload"),
        filters=tuple(filters),
        wants_ack=flag(fields, b"RequestAck"),
        relay_factor=uint(fields, b"RelayFactor", 8),
        timeout_s=uint(fields, b"Timeout", 63) / _NS_PER_S,
    )
    return Ask(question=question)


def texts(fields: Fields, key: bytes) -> tuple[str, ...]:
    """A list of texts; empty when it is missing or nil."""
    value = fields.get(key)
    if value is None:
        return ()
    if not isinstance(value, tuple):
        raise CodecError("bad_list", f"{key.decode()} is {value!r:.40}")
    return tuple(_text(one, key) for one in value)


def text_map(fields: Fields, key: bytes) -> dict[str, str]:
    """A map of texts; empty when it is missing or nil."""
    return plain_map(fields.get(key), key)


def plain_map(value: object, key: bytes, bytes_max: int = TEXT_BYTES_MAX) -> dict[str, str]:
    """`value` as a map of texts; `key` names it in the error."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CodecError("bad_map", f"{key.decode()} is {value!r:.40}")
    return {_text(name, key): _text(one, key, bytes_max) for name, one in value.items()}


def _text(value: Any, key: bytes, bytes_max: int = TEXT_BYTES_MAX) -> str:
    if type(value) is not bytes or len(value) > bytes_max:
        raise CodecError("bad_text", f"{key.decode()} has {value!r:.40} in it")
    return value.decode("utf-8", "surrogateescape")


def _read_keys(operation: KeyOperation) -> Callable[[Fields], Request]:
    return lambda fields: ChangeKeys(operation=operation, key=text(fields, b"Key"))


def _read_tags(fields: Fields) -> ChangeTags:
    return ChangeTags(tags=text_map(fields, b"Tags"), removed=texts(fields, b"DeleteTags"))


_READERS: Final[Mapping[str, Callable[[Fields], Request]]] = {
    "handshake": lambda fields: Handshake(version=_version(fields)),
    "auth": lambda fields: Auth(key=text(fields, b"AuthKey", TEXT_BYTES_MAX)),
    "event": lambda fields: SendEvent(
        name=text(fields, b"Name", TEXT_BYTES_MAX),
        payload=blob(fields, b"Payload"),
        is_coalescable=flag(fields, b"Coalesce"),
    ),
    "force-leave": lambda fields: ForceLeave(node=text(fields, b"Node"), is_prune=flag(fields, b"Prune")),
    "join": lambda fields: Join(addresses=texts(fields, b"Existing"), is_replaying=flag(fields, b"Replay")),
    "members": lambda fields: ListMembers(),
    "members-filtered": lambda fields: FilterMembers(
        tags=text_map(fields, b"Tags"),
        status=text(fields, b"Status", TEXT_BYTES_MAX),
        node=text(fields, b"Name", TEXT_BYTES_MAX),
    ),
    "stream": lambda fields: FollowEvents(kinds=text(fields, b"Type", TEXT_BYTES_MAX)),
    "monitor": lambda fields: FollowLog(level=text(fields, b"LogLevel")),
    "stop": lambda fields: StopStream(seq=uint(fields, b"Stop", 64)),
    "leave": lambda fields: LeaveCluster(),
    "tags": _read_tags,
    "query": _read_question,
    "respond": lambda fields: Respond(query_id=uint(fields, b"ID", 64), payload=blob(fields, b"Payload")),
    "stats": lambda fields: ReadStats(),
    "get-coordinate": lambda fields: ReadCoordinate(node=text(fields, b"Node")),
    **{operation.value: _read_keys(operation) for operation in KeyOperation},
}


def _version(fields: Fields) -> int:
    """The version asked for; a negative one is none, and just as unsupported."""
    value = fields.get(b"Version", 0)
    if type(value) is not int:
        raise CodecError("bad_number", f"Version is {value!r:.40}")
    return value
