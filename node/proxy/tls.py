"""TLS towards clients: a socket that looks like any other to the lane and to the long way.

OpenSSL works on memory (`ssl.MemoryBIO`), and what it makes goes through the bare socket in large pieces: one system
call for a request and one for its answer, where `ssl.SSLSocket` takes two or three. What is in memory is told by no
epoll, so `recv` reads until the kernel has nothing more, or gives as much as was asked for, like a bare socket.

A `send` that the kernel does not take whole is not half done: it raises BlockingIOError and is repeated with the same
bytes, whose records are made already. So nobody has to look after bytes that are encrypted and not sent.
"""

import contextlib
import socket
import ssl
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import structlog
import trio

from node.chain_file import load_chain
from node.proxy.certificates import CertificateTable, Chain, build_certificate_table

_log = structlog.get_logger("orca.proxy")
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secret and authenticated, whatever the key; TLS 1.3 has no others."""
CONTEXTS_KEPT: Final = 1024
"""Names whose certificate is ready in OpenSSL, about 30 KB each; another one is made ready in half a millisecond."""
FRONT_MAX_S: Final = 86_400.0
"""How long the keys of session tickets live: who steals them later reads nothing older."""
HANDSHAKE_BYTES_MAX: Final = 64 * 1024
_RECEIVE_BYTES: Final = 128 * 1024
_SEND_BYTES: Final = 256 * 1024
_UNSENT_MAX: Final = 64 * 1024
_cipher: Final = memoryview(bytearray(_RECEIVE_BYTES))  # used between two waits only, so all connections share it


class TlsSocket:
    """What the proxy uses of `socket.socket`, with TLS on `bare`, which does not block."""

    __slots__ = ("_has_ended", "_has_said_end", "_incoming", "_outgoing", "_promised", "_tls", "_unsent", "bare")

    def __init__(self, bare: socket.socket, context: ssl.SSLContext) -> None:
        self.bare = bare
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent: bytes | memoryview = b""
        self._promised = 0
        self._has_ended = self._has_said_end = False

    def fileno(self) -> int:
        """Of the bare socket; -1 when it is closed."""
        return self.bare.fileno()

    @property
    def has_more(self) -> bool:
        """Whether something was taken from the kernel and not given to anybody."""
        return bool(self._incoming.pending or self._tls.pending())

    async def handshake(self, gate: trio.Lock) -> None:
        """Until both agree. `gate` lets one at a time do arithmetic, and everybody else in between.

        Raises ssl.SSLError, with the alert on its way, and OSError.
        """
        received = 0
        while True:
            try:
                count = self.bare.recv_into(_cipher)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.bare)
                continue
            if not count:
                raise ConnectionResetError("the client left during the handshake")
            if received > HANDSHAKE_BYTES_MAX:  # not what came with its last piece, where a request may begin
                raise ConnectionAbortedError("the client's handshake has no end")
            received += count
            self._incoming.write(_cipher[:count])
            is_done = False
            async with gate:
                try:
                    self._tls.do_handshake()
                    is_done = True
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    with contextlib.suppress(OSError):
                        self._push()
                    raise
            self._push()
            while self._unsent:
                await trio.lowlevel.wait_writable(self.bare)
                self._push()
            if is_done:
                return

    def recv(self, bytes_max: int) -> bytes:
        """Up to `bytes_max` bytes; fewer only when nothing more is there now. Empty at the end of the stream.

        Raises BlockingIOError when nothing is there, OSError for a connection or a record that is broken.
        """
        pieces: list[bytes] = []
        left, is_dry = bytes_max, False
        while left and not self._has_ended:
            if self.has_more:
                try:
                    piece = self._tls.read(left)
                except ssl.SSLWantReadError:
                    continue  # the rest of a record is on its way
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    piece = b""
                if not piece:
                    self._has_ended = True
                    break
                pieces.append(piece)
                left -= len(piece)
            elif is_dry and pieces:
                break
            else:
                try:
                    count = self.bare.recv_into(_cipher)
                except BlockingIOError:
                    if pieces:
                        break
                    raise
                if not count:
                    self._has_ended = True
                    break
                is_dry = count < _RECEIVE_BYTES
                self._incoming.write(_cipher[:count])
        if self._outgoing.pending:  # an answer to a change of keys
            self._push()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def send(self, payload: bytes | memoryview) -> int:
        """How many of `payload` went out; after BlockingIOError it has to be called with the same bytes again."""
        if not payload:
            return 0
        if not self._promised:
            piece = payload if len(payload) <= _SEND_BYTES else memoryview(payload)[:_SEND_BYTES]
            self._promised = self._tls.write(piece)
        self._push()
        if self._unsent:
            raise BlockingIOError("the client takes no more at the moment")
        taken, self._promised = self._promised, 0
        return taken

    def _push(self) -> None:
        """Give the kernel what it takes of what was made. Raises OSError."""
        if self._outgoing.pending:
            made = self._outgoing.read()
            self._unsent = bytes(self._unsent) + made if self._unsent else made
        if not self._unsent:
            return
        try:
            sent = self.bare.send(self._unsent)
        except BlockingIOError:
            sent = 0
        self._unsent = memoryview(self._unsent)[sent:] if sent < len(self._unsent) else b""
        if not self._promised and len(self._unsent) > _UNSENT_MAX:
            raise ConnectionAbortedError("the client asks for new keys and takes none")

    def shutdown(self, how: int) -> None:
        """As for a socket; an end of sending is said in TLS first."""
        if how != socket.SHUT_RD:
            self._say_end()
        self.bare.shutdown(how)

    def close(self) -> None:
        """Close, and say so: without that a client could not tell the end from a cut (RFC 8446 §6.1)."""
        if self.bare.fileno() >= 0:
            self._say_end()
            self.bare.close()

    def _say_end(self) -> None:
        if self._unsent or self._has_said_end or self.has_more:
            return  # in the middle of a record, or of what OpenSSL would have to read first
        self._has_said_end = True
        with contextlib.suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._push()


@contextlib.contextmanager
def quiet_about_names() -> Iterator[None]:
    """Keep out of the log what `ssl` says when a client names a server in bytes that are no ASCII.

    It refuses the handshake by itself, before any callback, and writes a traceback each time, by which anybody could
    fill the log.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not (isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes)):
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def make_context() -> ssl.SSLContext:
    """What the ingress speaks: TLS 1.2 and 1.3, HTTP/1.1, no renegotiation."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


class TlsFront:
    """Begins TLS with clients: the name that one asks for decides by which certificate.

    A name without one is refused with an alert; nobody gets the certificate of somebody else.
    """

    def __init__(self) -> None:
        self._table = build_certificate_table(())
        self._ready: OrderedDict[bytes, ssl.SSLContext] = OrderedDict()
        self._front = self._make_front()
        self._made_at = 0.0

    def set_table(self, table: CertificateTable) -> None:
        """Choose from `table` for who comes from now on; connections that are there go on as they began."""
        self._table = table
        for gone in [pem for pem in self._ready if not table.shows(pem)]:
            del self._ready[gone]

    def begin(self, bare: socket.socket, now: float) -> TlsSocket:
        """A client's socket, before the handshake. `now` is in seconds."""
        if now - self._made_at > FRONT_MAX_S:
            self._front, self._made_at = self._make_front(), now
        return TlsSocket(bare, self._front)

    def _make_front(self) -> ssl.SSLContext:
        front = make_context()
        front.sni_callback = self._choose
        return front

    def _choose(self, tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        """Called by OpenSSL in the handshake; gives an alert, or None when all is well."""
        chain = self._table.find(name)
        if chain is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        try:
            tls.context = self._context_of(chain)
        except (ssl.SSLError, ValueError, OSError) as error:
            _log.error("a certificate cannot be shown", names=chain.names[:3], reason=str(error))
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None

    def _context_of(self, chain: Chain) -> ssl.SSLContext:
        ready = self._ready.get(chain.pem)
        if ready is not None:
            self._ready.move_to_end(chain.pem)
            return ready
        made = make_context()
        load_chain(made, chain.pem)
        self._ready[chain.pem] = made
        if len(self._ready) > CONTEXTS_KEPT:
            self._ready.popitem(last=False)
        return made
