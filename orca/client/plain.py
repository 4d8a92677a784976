"""Reads without an event loop: one blocking connection a call.

For commands that ask once and print. Loading trio takes longer than everything else that
such a command does; the calls are `async` like those of the whole client, wait for
nothing, and so need nobody to run them.
"""

import os
import socket
import time
from typing import Final, NamedTuple

import h11

from orca.client.answers import decode_error, lost, reason_of, unreachable
from orca.client.credentials import NO_CREDENTIALS, Credentials
from orca.client.discover import NodeAddress
from orca.client.reads import NodeReads
from orca.errors import NodeUnreachableError, NotLeaderError, PeerProtocolError

TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 5.0
TRIES: Final = 2
RETRY_PAUSE_S: Final = 0.1
ANSWER_BYTES_MAX: Final = 64 * 2**20
_HEAD_BYTES_MAX: Final = 32 * 1024
_RECEIVE_BYTES: Final = 256 * 1024
_UNIX_PATH_BYTES_MAX: Final = 107


class _Whole(NamedTuple):
    status: int
    body: bytes


class PlainReader:
    """Carries reads to one node; tried once more when the node was not there or did not lead."""

    def __init__(
        self, address: NodeAddress, timeout_s: float = TIMEOUT_S, credentials: Credentials = NO_CREDENTIALS
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._timeout_s = timeout_s

    async def call(self, method: str, target: str) -> _Whole:
        """The answer; raises the node's error for a status of 400 or more."""
        return self._call(method, target)

    def _call(self, method: str, target: str) -> _Whole:
        for attempt in range(1, TRIES + 1):
            try:
                return self._try(method, target)
            except (NodeUnreachableError, NotLeaderError):
                if attempt == TRIES:
                    raise
            time.sleep(RETRY_PAUSE_S)
        raise AssertionError("the loop returns or raises")

    def _try(self, method: str, target: str) -> _Whole:
        deadline = time.monotonic() + self._timeout_s
        try:
            connection = self._connect()
        except OSError as error:
            raise unreachable(self._address, reason_of(error)) from error
        with connection:
            try:
                answer = self._exchange(connection, method, target, deadline)
            except TimeoutError as error:
                why = f"no answer within {self._timeout_s:g} s"
                raise lost(self._address, why, is_write=False) from error
            except OSError as error:
                raise lost(self._address, reason_of(error), is_write=False) from error
            except h11.RemoteProtocolError as error:
                raise PeerProtocolError(f"the answer is no HTTP/1.1: {error}") from error
        if answer.status >= 400:
            raise decode_error(answer.status, answer.body, f"{method} {target}")
        return answer

    def _connect(self) -> socket.socket:
        address = self._address
        if not address.socket_path:
            plain = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S)
            if not address.is_tls:
                return plain
            try:
                return self._credentials.tls().wrap_socket(plain, server_hostname=address.host)
            except BaseException:
                plain.close()
                raise
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_TIMEOUT_S)
        try:
            _connect_unix(connection, address.socket_path)
        except OSError:
            connection.close()
            raise
        return connection

    def _exchange(self, connection: socket.socket, method: str, target: str, deadline: float) -> _Whole:
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)
        fields = [("host", self._address.authority), ("connection", "close"), *self._credentials.headers]
        request = parser.send(h11.Request(method=method, target=target, headers=fields)) or b""
        connection.settimeout(_left(deadline))
        connection.sendall(request + (parser.send(h11.EndOfMessage()) or b""))
        status, size = 0, 0
        pieces: list[bytes] = []
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                connection.settimeout(_left(deadline))
                data = connection.recv(_RECEIVE_BYTES)
                if not data and not status:
                    raise ConnectionResetError("it closed the connection before it answered")
                parser.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
                size += len(event.data)
                if size > ANSWER_BYTES_MAX:
                    raise PeerProtocolError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return _Whole(status, b"".join(pieces))


def plain_reads(
    address: NodeAddress, *, timeout_s: float = TIMEOUT_S, credentials: Credentials = NO_CREDENTIALS
) -> NodeReads:
    """The reads of the node at `address`; drive them with anything, they never wait for a loop."""
    return NodeReads(address, PlainReader(address, timeout_s, credentials))


def _connect_unix(connection: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= _UNIX_PATH_BYTES_MAX:
        connection.connect(path)
        return
    # Too long for a socket address: through its directory's descriptor.
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)  # noqa: PTH120
    try:
        connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")  # noqa: PTH119
    finally:
        os.close(directory)


def _left(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
