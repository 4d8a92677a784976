"""The TLS port: handshakes, each in a task of its own until the client may enter the lane."""

import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable
from typing import Final

import structlog
import trio

from node.proxy.faults import ClientGoneError
from node.proxy.tls import TlsFront, TlsSocket
from node.proxy.traffic import Traffic
from node.proxy.wires import Wire, reset_socket

_log = structlog.get_logger("orca.proxy")
_PAGE: Final = b"400 Bad Request\nThis port speaks TLS: write https:// in front of the address.\n"
_SPOKEN_IN_CLEAR: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b" % (len(_PAGE), _PAGE)
)


class TlsDoor:
    """Lets clients in once their handshake is done; `admit` takes them with their address.

    Arithmetic is done for one client at a time, and the rest of the loop runs in between: with a hundred clients that
    came at once nothing waited for more than 6 ms of it, and for 75 ms otherwise. Nobody waits here for long:
    a handshake has `handshake_timeout_s`, and when there are too many the one that began first gives way.
    """

    def __init__(self, traffic: Traffic, admit: Callable[[TlsSocket, str], None]) -> None:
        self.front = TlsFront()
        self._traffic = traffic
        self._admit = admit
        self._gate = trio.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, trio.CancelScope] = {}

    @property
    def count(self) -> int:
        """Handshakes under way."""
        return len(self._waiting)

    async def let_in(self, bare: socket.socket, peer: str) -> None:
        """One client, from its connection on; no error of it gets past here."""
        limits = self._traffic.limits
        if self.count >= limits.handshakes_max:
            self._waiting.pop(next(iter(self._waiting))).cancel()
        number = next(self._numbers)
        tls = self.front.begin(bare, trio.current_time())
        is_told = is_done = False
        with trio.CancelScope(deadline=trio.current_time() + limits.handshake_timeout_s) as scope:
            self._waiting[number] = scope
            try:
                await tls.handshake(self._gate)
                is_done = True
            except ssl.SSLError as error:
                is_told = True
                _explain(bare, error)
            except OSError:
                pass  # It has gone.
            except trio.Cancelled:
                reset_socket(bare)
                raise
            except Exception:  # noqa: BLE001 - one client's bad luck must not end every other client's connection
                self._traffic.counters.bugs += 1
                _log.exception("proxy_handshake_failed")
            finally:
                self._waiting.pop(number, None)
        if is_done:
            self._traffic.counters.handshakes += 1
            self._admit(tls, peer)
            return
        self._traffic.counters.handshakes_failed += 1
        if is_told:
            await Wire(bare, ClientGoneError, limits.stall_timeout_s).close_gently(limits.linger_timeout_s)
        else:
            reset_socket(bare)


def _explain(bare: socket.socket, error: ssl.SSLError) -> None:
    """The alert is out; somebody who speaks HTTP in the clear would not understand it."""
    if error.reason == "HTTP_REQUEST":
        with contextlib.suppress(OSError):
            bare.send(_SPOKEN_IN_CLEAR)
