"""One call of a route, checked and typed, and how a route is declared."""

import enum
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

import msgspec
import trio

from node.api.caller import Caller, Standing
from node.api.control import Control
from orca.errors import (
    ConflictError,
    InvalidRequestError,
    NotAvailableError,
    NotFoundError,
    NotLeaderError,
    OrcaError,
    PayloadTooLargeError,
    ProposalLostError,
    StoreFullError,
    UnsupportedMediaTypeError,
)
from orca.http import Reply, Request, Response
from orca.model.trust import Author

if TYPE_CHECKING:
    from node.api.far import FarNodes

Q = TypeVar("Q", bound=msgspec.Struct)
B = TypeVar("B")

JSON: Final = "application/json"
JSON_BYTES_MAX: Final = 8 * 2**20
BLOB_BYTES_MAX: Final = 256 * 2**20
BUILD_BYTES_MAX: Final = 4 * 2**30
THREAD_BYTES_MIN: Final = 128 * 1024
"""Bodies from here on are decoded in a thread: about 1 ms of the loop for each 128 KiB."""
WRITE_ERRORS: Final[tuple[type[OrcaError], ...]] = (
    NotAvailableError,
    NotLeaderError,
    ProposalLostError,
    StoreFullError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
"""How any change may fail."""
CHANGE_ERRORS: Final[tuple[type[OrcaError], ...]] = (NotFoundError, ConflictError, *WRITE_ERRORS)
"""And one of something that is there."""
_VARIABLE: Final = re.compile(r"\{(\w+)\}")


class NoQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A route that takes no query parameters."""


class NoBody(msgspec.Struct, frozen=True, kw_only=True):
    """A route that takes no body."""


class Call(Generic[Q, B]):
    """What a handler is given: the node, who asks, and the checked parts of the request.

    `path` has the template's variables; `body` is decoded for routes that take JSON. `far` leads to the other
    nodes, None for a call that was passed on already. `subject` is what the audit says that it was about.
    """

    def __init__(  # noqa: PLR0913 - the parts of a call
        self,
        control: Control,
        request: Request,
        caller: Caller,
        path: Mapping[str, str],
        query: Q,
        body: B,
        *,
        far: "FarNodes | None" = None,
        standing: Standing = trio.sleep_forever,
        subject: str = "",
    ) -> None:
        self.control = control
        self.request = request
        self.caller = caller
        self.path = path
        self.query = query
        self.body = body
        self.far = far
        self.standing = standing
        self.subject = subject

    @property
    def author(self) -> Author:
        """Who asks, as the audit has it."""
        return self.caller.author

    @property
    def actor(self) -> str:
        """Who asks, in a word."""
        return self.caller.actor


Result: TypeAlias = msgspec.Struct | Reply
Handler: TypeAlias = Callable[[Call[Any, Any]], Awaitable[Result]]


class BodyKind(enum.Enum):
    """How the body of a route is read.

    `RAW` bodies are left to the handler, which streams them; `SPECS` is JSON, or a
    service file in TOML or YAML.
    """

    NONE = "none"
    JSON = "json"
    JSON_OR_EMPTY = "json or empty"
    SPECS = "specs"
    RAW = "raw"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: everything that routing, checking and documenting need."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    reply: type[msgspec.Struct] | None = None
    reply_media: str = JSON
    status: int = 200
    query: type[msgspec.Struct] = NoQuery
    body: BodyKind = BodyKind.NONE
    request: type[msgspec.Struct] | None = None
    body_bytes_max: int = JSON_BYTES_MAX
    body_media: tuple[str, ...] = (JSON,)
    errors: tuple[type[OrcaError], ...] = ()
    variables: Mapping[str, str] = {}
    """What each variable of the path means."""
    other_statuses: Mapping[int, str] = {}
    """Further successes and what they mean."""

    @property
    def key(self) -> str:
        """How the table of permissions knows it."""
        return f"{self.method} {self.path}"

    @property
    def segments(self) -> tuple[str, ...]:
        """The template's parts between its slashes."""
        return tuple(self.path.split("/")[1:])

    @property
    def is_whole(self) -> bool:
        """Whether a GET of it answers at once, with a length."""
        return self.reply_media in {JSON, "text/html", "text/plain"}

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """The variables' values when `segments` fit the template, else None."""
        own = self.segments
        if len(own) != len(segments):
            return None
        found: dict[str, str] = {}
        for template, segment in zip(own, segments, strict=True):
            variable = _VARIABLE.fullmatch(template)
            if variable is not None and segment:
                found[variable[1]] = segment
            elif template != segment:
                return None
        return found


def decode_query(request: Request, kind: type[Q]) -> Q:
    """The query parameters as `kind`; a tuple field takes a parameter that comes several times.

    Raises `InvalidRequestError` for an unknown parameter, one that is missing or comes
    twice, and a value that does not fit.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, str | list[str]] = {}
    for name, value in request.query:
        field = fields.get(name)
        if field is None:
            allowed = ", ".join(fields) or "none"
            raise InvalidRequestError(
                f"the query parameter {name[:80]!r} is unknown here; those allowed are: {allowed}"
            )
        if is_repeatable(field):
            several = values.setdefault(name, [])
            assert isinstance(several, list), "a repeatable parameter is collected in a list"
            several.append(value)
        elif name in values:
            raise InvalidRequestError(f"the query parameter {name!r} was given twice; it takes one value")
        else:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"a query parameter is wrong: {_placed(str(error))}") from error


def is_repeatable(field: msgspec.structs.FieldInfo) -> bool:
    """Whether a parameter may come several times: its type is a tuple."""
    kind = msgspec.inspect.type_info(field.type)
    inner = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
    return isinstance(inner, msgspec.inspect.VarTupleType)


async def decode_json(content: bytes, kind: type[B]) -> B:
    """`content` as `kind`; raises `InvalidRequestError` that says where it is wrong."""
    if len(content) >= THREAD_BYTES_MIN:
        return await trio.to_thread.run_sync(_decode_json, content, kind)
    return _decode_json(content, kind)


def _decode_json(content: bytes, kind: type[B]) -> B:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the body is no {kind.__name__}: {_placed(str(error))}") from error
    except RecursionError as error:
        raise InvalidRequestError("the body is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from error


def check_content_type(request: Request, allowed: tuple[str, ...]) -> str:
    """The body's media type; raises `UnsupportedMediaTypeError` when it is not one of `allowed`."""
    if request.content_type not in allowed:
        given = f"is {request.content_type!r}" if request.content_type else "is missing"
        raise UnsupportedMediaTypeError(f"the content type {given}; this route takes {' or '.join(allowed)}")
    return request.content_type


def json_response(body: msgspec.Struct, status: int = 200) -> Response:
    """`body` as JSON."""
    return Response(
        status=status,
        headers=(("content-type", JSON), ("cache-control", "no-store")),
        body=msgspec.json.encode(body) + b"\n",
    )


def _placed(message: str) -> str:
    """Msgspec's words, with `$.replicas` as `replicas`."""
    return message.replace("`$.", "`").replace(" - at `$`", "")
