"""TLS on a socket, without trio's stream between.

`ssl.SSLObject` over memory, and the socket read and written in large pieces: a record of TLS
holds 16 KiB, and a system call for each costs more than the copy through memory (1.1 GB/s
against 0.6 to 0.8 for `ssl.SSLSocket` and 0.7 for `trio.SSLStream`, two cores, 64 KiB writes;
the round trip of 1 KB is the same for all three).

Everything but waiting is synchronous: nobody else runs between the bytes and what is made of
them, so all connections of a thread share one buffer for what comes.
"""

import socket
import ssl
from contextlib import suppress
from typing import Final

import trio

from orca.errors import ForbiddenError, NodeUnreachableError, OrcaError, PeerProtocolError

RECEIVE_BYTES: Final = 256 * 1024
UNSENT_BYTES: Final = 128 * 1024
"""So little waits in the kernel that has not been sent: what is urgent is not put behind more."""
UNACKNOWLEDGED_S: Final = 15.0
"""A peer whose kernel acknowledges nothing for so long is given up."""
_TCP_NOTSENT_LOWAT: Final = 25
_HANDSHAKE_BYTES_MAX: Final = 128 * 1024

_cipher: Final = memoryview(bytearray(RECEIVE_BYTES))
_plain: Final = memoryview(bytearray(RECEIVE_BYTES + 16 * 1024))


class TlsPipe:
    """One connection. Errors of any call: NodeUnreachableError, ForbiddenError, PeerProtocolError."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, is_server: bool) -> None:
        self.socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server)
        self._unsent = memoryview(b"")
        self._is_over = False

    @property
    def alpn(self) -> str | None:
        """What was agreed to be spoken."""
        return self._tls.selected_alpn_protocol()

    @property
    def certificate(self) -> bytes | None:
        """The peer's leaf as DER; None when it showed none."""
        return self._tls.getpeercert(binary_form=True)

    @property
    def has_unsent(self) -> bool:
        """What was sent last is not all in the kernel yet."""
        return bool(self._unsent)

    async def handshake(self, gate: trio.Lock) -> None:
        """Until both know each other. `gate` lets one at a time do arithmetic, and the others in between."""
        received = 0
        while True:
            async with gate:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    is_done = False
                except ssl.SSLError as error:
                    self._flush_alert()
                    raise _translated(error) from error
                else:
                    is_done = True
            self._unsent = memoryview(self._outgoing.read())
            await self.drain()
            if is_done:
                return
            await trio.lowlevel.wait_readable(self.socket)
            count = self._fill()
            received += count
            if self._is_over:
                raise NodeUnreachableError("the peer closed the connection during the handshake")
            if received > _HANDSHAKE_BYTES_MAX:
                raise PeerProtocolError("the peer's handshake has no end")

    def receive(self) -> memoryview | None:
        """What has come, to be read before anything else is awaited; None at the end. Empty: nothing yet."""
        if not self._is_over:
            self._fill()
        if self._is_over:
            return None
        size = 0
        try:
            while size < RECEIVE_BYTES:
                count = _read_into(self._tls, _plain[size:])
                if not count:
                    self._is_over = True
                    break
                size += count
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._is_over = True
        except ssl.SSLError as error:
            raise _translated(error) from error
        return None if self._is_over and not size else _plain[:size]

    def _fill(self) -> int:
        """Take what the socket has; 0 at its end, or when there is nothing yet."""
        try:
            count = self.socket.recv_into(_cipher)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise NodeUnreachableError(f"the connection broke: {error.strerror or error}") from error
        if count:
            self._incoming.write(_cipher[:count])
        else:
            self._is_over = True
        return count

    def send(self, data: bytes) -> None:
        """Encrypt `data` and put into the kernel what fits; not to be called while something is unsent."""
        assert not self._unsent, "flush first"
        try:
            written = self._tls.write(data)
        except ssl.SSLError as error:
            raise _translated(error) from error
        assert written == len(data), "memory takes all"
        self._unsent = memoryview(self._outgoing.read())
        self.flush()

    def flush(self) -> None:
        """Put more of what is unsent into the kernel."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise NodeUnreachableError(f"the connection broke: {error.strerror or error}") from error

    async def send_all(self, data: bytes) -> None:
        """Encrypt `data` and wait until all of it is in the kernel."""
        await self.drain()
        self.send(data)
        await self.drain()

    async def drain(self) -> None:
        """Wait until all that is unsent is in the kernel."""
        self.flush()
        while self._unsent:
            await trio.lowlevel.wait_writable(self.socket)
            self.flush()

    def _flush_alert(self) -> None:
        with suppress(OSError):  # the peer will see the end of the connection instead
            self.socket.send(self._outgoing.read())

    def shut_down(self) -> None:
        """Nothing more is sent; the peer sees the end after what came before."""
        with suppress(ssl.SSLError):  # it wants the peer's own farewell, for which nobody waits
            self._tls.unwrap()
        self._flush_alert()
        with suppress(OSError):  # it is down already
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of the socket; whoever waits on it gets trio.ClosedResourceError."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()


def _read_into(tls: ssl.SSLObject, buffer: memoryview) -> int:
    """What the interface of `ssl` says of `read` with a buffer: how much was read."""
    count: int | bytes = tls.read(len(buffer), buffer)
    assert isinstance(count, int), "with a buffer, read() counts"
    return count


def _translated(error: ssl.SSLError) -> ForbiddenError | PeerProtocolError | NodeUnreachableError:
    """What OpenSSL found, in our tree."""
    words = (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ForbiddenError(f"the peer's certificate is not good: {error.verify_message}")
    if "alert" in words and any(one in words for one in ("certificate", "unknown ca", "access denied")):
        return ForbiddenError(f"the peer does not take this node's certificate: {words}")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return NodeUnreachableError("the peer closed the connection")
    return PeerProtocolError(f"the peer does not speak TLS as it should: {words}")


async def connect(host: str, port: int, context: ssl.SSLContext, *, local_host: str | None = None) -> TlsPipe:
    """A pipe to `host` and `port`, both known to each other as far as `context` asks.

    Raises NodeUnreachableError when nobody answers, and what a handshake raises. The caller limits the time.
    """
    try:
        stream = await trio.open_tcp_stream(host, port, local_address=local_host)
    except OSError as error:
        raise NodeUnreachableError(f"nobody answers at {host}:{port}: {error}") from error
    pipe = TlsPipe(detached(stream.socket), context, is_server=False)
    try:
        await pipe.handshake(trio.Lock())
    except BaseException:
        pipe.close()
        raise
    return pipe


def detached(sock: trio.socket.SocketType) -> socket.socket:
    """The plain socket of a connected one of trio's, set up for a pipe."""
    plain = socket.socket(fileno=sock.detach())
    try:
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNACKNOWLEDGED_S * 1000))
    except OSError as error:
        plain.close()
        raise NodeUnreachableError(f"the peer is gone: {error.strerror or error}") from error
    return plain


class TlsStream(trio.abc.Stream):
    """A pipe as a stream that carries `bytes_max` in each direction at most."""

    def __init__(self, pipe: TlsPipe, bytes_max: int) -> None:
        self.pipe = pipe
        self._bytes_max = bytes_max
        self._sent = self._received = 0
        self._rest = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; raises trio.BrokenResourceError."""
        await trio.lowlevel.checkpoint()
        self._sent += len(data)
        if self._sent > self._bytes_max:
            raise trio.BrokenResourceError(f"more than {self._bytes_max} bytes were to be sent")
        try:
            await self.pipe.send_all(bytes(data))
        except OrcaError as error:
            raise trio.BrokenResourceError(error.message) from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes something."""
        await trio.lowlevel.wait_writable(self.pipe.socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has come, b"" at the end; raises trio.BrokenResourceError."""
        await trio.lowlevel.checkpoint()
        while not self._rest:
            try:
                data = self.pipe.receive()
            except OrcaError as error:
                raise trio.BrokenResourceError(error.message) from error
            if data is None:
                return b""
            self._rest = bytes(data)
            self._received += len(data)
            if self._received > self._bytes_max:
                raise trio.BrokenResourceError(f"more than {self._bytes_max} bytes came")
            if not data:
                await trio.lowlevel.wait_readable(self.pipe.socket)
        some, self._rest = self._rest[:max_bytes], self._rest[max_bytes or len(self._rest) :]
        return some

    async def aclose(self) -> None:
        """Say that nothing follows, and let go."""
        self.pipe.shut_down()
        self.pipe.close()
        await trio.lowlevel.checkpoint()
