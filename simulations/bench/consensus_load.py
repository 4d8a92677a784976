"""Load from a process of its own: `consensus_load orca|etcd|grpc PORT IN_FLIGHT BYTES SECONDS`.

Keeps so many puts in flight on one connection and prints one JSON object. etcd is loaded in two ways. `grpc` uses
grpcio, which is what a Python program has, and which shares the processors with the servers. `etcd` speaks just
enough HTTP/2 (RFC 9113) and gRPC: every request has the same header block, written as literals
without a table, so that the client costs as little as ours does and the server alone is measured.
"""

import queue
import selectors
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from orca.wire import FrameReader, encode_frame

WARM_UP_S: Final = 1.0
NAMES: Final = 1_000
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WINDOW_MAX: Final = 2**31 - 1
_WINDOW_START: Final = 65_535


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; seconds."""

    done: int
    failed: int
    took_s: float
    p50_s: float
    p99_s: float

    @property
    def rate(self) -> float:
        """Puts a second."""
        return self.done / self.took_s


class Door(Protocol):
    """How puts are written and answers read."""

    def put(self, number: int) -> bytes:
        """The bytes of put `number`."""
        ...

    def answers(self, data: bytes) -> tuple[list[tuple[int, bool]], bytes]:
        """Which puts were answered, and whether well; what to send at once."""
        ...


class OrcaDoor:
    """Frames; answers may come in another order than puts, and all puts are alike."""

    def __init__(self, size: int) -> None:
        self._frame = encode_frame(bytes(size))
        self._reader = FrameReader()
        self._oldest = 0

    def put(self, number: int) -> bytes:
        """A value."""
        return self._frame

    def answers(self, data: bytes) -> tuple[list[tuple[int, bool]], bytes]:
        """One frame each."""
        ends = [(self._oldest + n, not frame) for n, frame in enumerate(self._reader.feed(data))]
        self._oldest += len(ends)
        return ends, b""


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field that enters no table (RFC 7541, section 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, size = len(content), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


class EtcdDoor:
    """`etcdserverpb.KV/Put` over HTTP/2; each put is a stream."""

    def __init__(self, size: int) -> None:
        self._value = _field(2, bytes(size))
        self._headers = b"".join(
            _literal(name, value)
            for name, value in (
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", b"/etcdserverpb.KV/Put"),
                (b":authority", b"127.0.0.1"),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
            )
        )
        self._held = b""
        self._answered: set[int] = set()
        self._room = _WINDOW_START
        self._waiting: list[bytes] = []
        self._received = 0

    def greeting(self) -> bytes:
        """The first bytes: large windows, so that the server never waits for this client."""
        settings = struct.pack(">HI", 4, _WINDOW_MAX)
        grow = struct.pack(">I", _WINDOW_MAX - _WINDOW_START)
        return _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, grow)

    def put(self, number: int) -> bytes:
        """Headers and the message, or the headers alone while the server takes no more."""
        stream = 2 * number + 1
        message = _field(1, b"bench/key%d" % (number % NAMES)) + self._value
        body = _frame(_DATA, _END_STREAM, stream, b"\x00" + len(message).to_bytes(4, "big") + message)
        headers = _frame(_HEADERS, _END_HEADERS, stream, self._headers)
        self._waiting.append(body)
        return headers + self._release()

    def _release(self) -> bytes:
        sent = 0
        for body in self._waiting:
            if len(body) - 9 > self._room:
                break
            self._room -= len(body) - 9
            sent += 1
        ready, self._waiting = self._waiting[:sent], self._waiting[sent:]
        return b"".join(ready)

    def answers(self, data: bytes) -> tuple[list[tuple[int, bool]], bytes]:
        """A stream with a message that ended was done; one without was refused."""
        held = self._held + data
        start, end = 0, len(held)
        ends: list[tuple[int, bool]] = []
        reply = b""
        while end - start >= 9:
            length = int.from_bytes(held[start : start + 3], "big")
            kind, flags, stream = struct.unpack_from(">BBI", held, start + 3)
            if end - start - 9 < length:
                break
            payload = held[start + 9 : start + 9 + length]
            start += 9 + length
            reply += self._on_frame(kind, flags, stream, payload, ends)
        self._held = held[start:]
        return ends, reply + self._release()

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes, ends: list[tuple[int, bool]]) -> bytes:
        if kind == _DATA:
            self._answered.add(stream)
            self._received += len(payload)
        if (kind in {_DATA, _HEADERS} and flags & _END_STREAM) or kind == _RESET:
            ends.append((stream // 2, kind != _RESET and stream in self._answered))
            self._answered.discard(stream)
        elif kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        elif kind == _WINDOW and stream == 0:
            self._room += int.from_bytes(payload, "big")
        elif kind == _GOAWAY:
            raise SystemExit(f"etcd ends the connection: {payload[8:]!r}")
        if self._received > _WINDOW_MAX // 2:
            self._received, grown = 0, self._received
            return _frame(_WINDOW, 0, 0, struct.pack(">I", grown))
        return b""


def drive(connection: socket.socket, door: Door, in_flight: int, seconds: float, greeting: bytes = b"") -> Load:
    """Keep `in_flight` puts on their way; the first second does not count."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    began: dict[int, float] = {}
    unsent = bytearray(greeting)
    number, failed = 0, 0
    times: list[float] = []
    counts_from = time.monotonic() + WARM_UP_S
    ends_at = counts_from + seconds
    now = time.monotonic()
    while now < ends_at:
        while len(began) < in_flight:
            began[number] = now
            unsent += door.put(number)
            number += 1
        if unsent:
            with suppress(BlockingIOError):
                del unsent[: connection.send(unsent)]
        selector.modify(connection, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
        for _, ready in selector.select(1.0):
            if ready & selectors.EVENT_READ:
                data = connection.recv(256 * 1024)
                if not data:
                    raise SystemExit("the server closed the connection")
                ends, reply = door.answers(data)
                unsent += reply
                now = time.monotonic()
                for which, is_done in ends:
                    took = now - began.pop(which)
                    if now >= counts_from:
                        times.append(took)
                        failed += not is_done
        now = time.monotonic()
    return load_of(times, failed, seconds)


def drive_grpc(port: int, size: int, in_flight: int, seconds: float) -> Load:
    """The same through grpcio; its callbacks come on a thread of its own."""
    import grpc

    value = _field(2, bytes(size))
    ended: queue.SimpleQueue[tuple[float, float, bool]] = queue.SimpleQueue()
    times: list[float] = []
    failed = number = waiting = 0
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/etcdserverpb.KV/Put")
        counts_from = time.monotonic() + WARM_UP_S
        ends_at = counts_from + seconds
        now = time.monotonic()
        while now < ends_at:
            while waiting < in_flight:
                began = time.monotonic()
                future = call.future(_field(1, b"bench/key%d" % (number % NAMES)) + value)
                future.add_done_callback(
                    lambda one, began=began: ended.put((began, time.monotonic(), one.exception() is None))
                )
                number += 1
                waiting += 1
            began, now, is_done = ended.get()
            waiting -= 1
            if now >= counts_from:
                times.append(now - began)
                failed += not is_done
    return load_of(times, failed, seconds)


def load_of(times: list[float], failed: int, seconds: float) -> Load:
    """The figures of a run; raises SystemExit when nothing was answered."""
    if not times:
        raise SystemExit("nothing was answered")
    times.sort()
    return Load(
        done=len(times) - failed,
        failed=failed,
        took_s=seconds,
        p50_s=times[len(times) // 2],
        p99_s=times[len(times) * 99 // 100],
    )


def main() -> None:
    """Make the load, print what came of it."""
    kind, port, in_flight, size, seconds = sys.argv[1:]
    if kind == "grpc":
        print(msgspec.json.encode(drive_grpc(int(port), int(size), int(in_flight), float(seconds))).decode())
        return
    with socket.create_connection(("127.0.0.1", int(port))) as connection:
        if kind == "etcd":
            etcd = EtcdDoor(int(size))
            load = drive(connection, etcd, int(in_flight), float(seconds), etcd.greeting())
        else:
            load = drive(connection, OrcaDoor(int(size)), int(in_flight), float(seconds))
    print(msgspec.json.encode(load).decode())


if __name__ == "__main__":
    main()
