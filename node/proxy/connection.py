"""One client's connection: requests in order, until somebody ends it."""

from email.utils import formatdate
from http import HTTPStatus

import h11
import trio

from node.proxy.exchange import Exchange
from node.proxy.faults import (
    BadHeadError,
    ClientGoneError,
    RefusedRequestError,
    UpstreamLostError,
)
from node.proxy.forwarding import sane_request_id
from node.proxy.heads import HeadScanner, RequestHead, parse_request_head
from node.proxy.pages import error_page
from node.proxy.traffic import Traffic
from node.proxy.wires import Wire


class ClientConnection:
    """Reads requests from `stream` and has them answered, one after the other.

    While it waits for the first byte of a request it is idle, and `idle_scope` may be
    cancelled to make room for another client; at any other time that is None.
    """

    def __init__(self, traffic: Traffic, stream: trio.SocketStream, peer: str) -> None:
        self.idle_scope: trio.CancelScope | None = None
        self._traffic = traffic
        self._limits = traffic.limits
        self._wire = Wire(stream, ClientGoneError, traffic.limits.stall_timeout_s)
        self._peer = peer
        self._exchange: Exchange | None = None

    async def run(self) -> None:
        """Serve until the end; the connection is closed whatever happens."""
        try:
            while await self._serve_one():
                pass
            await self._wire.close_gently(self._limits.linger_timeout_s)
        except ClientGoneError:
            pass  # Nobody is left to tell.
        except UpstreamLostError:
            # Part of an answer is out: only the reset below says that the rest will not come.
            self._traffic.counters.broken += 1
        finally:
            if self._exchange is not None and self._exchange.has_answered:
                self._wire.reset()
            self._wire.close()

    async def _serve_one(self) -> bool:
        """Answer the next request; True when another may follow.

        Raises ClientGoneError, and UpstreamLostError when an answer broke off.
        """
        judge = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes_max)
        if not await self._has_more():
            return False
        try:
            head = await self._read_head(judge)
        except RefusedRequestError as error:
            self._traffic.counters.requests += 1
            await self._refuse(h11.Connection(h11.SERVER), error, None, self._traffic.fresh_request_id())
            return False
        self._traffic.counters.requests += 1
        request_id = sane_request_id(head) or self._traffic.fresh_request_id()
        exchange = Exchange(self._traffic, self._wire, judge, head, peer=self._peer, request_id=request_id)
        self._exchange = exchange
        try:
            may_continue = await exchange.run()
        except RefusedRequestError as error:
            if exchange.has_answered:
                raise UpstreamLostError(f"the request went wrong after its answer began: {error.reason}") from error
            may_continue = await self._refuse(judge, error, head, request_id)
        except UpstreamLostError as error:
            if exchange.has_answered:
                raise
            status = 504 if error.is_timeout else 502
            page = RefusedRequestError(status, may_keep_alive=exchange.is_request_read)
            may_continue = await self._refuse(judge, page, head, request_id)
        self._exchange = None
        return may_continue

    async def _has_more(self) -> bool:
        """Wait for the first byte of the next request; False when the client is done."""
        buffer = self._wire.buffer
        if not buffer and not await self._wait_idle():
            return False
        if buffer == b"\r":
            await self._wire.fill(self._limits.header_timeout_s)
        if buffer[:2] == b"\r\n":
            # One empty line before a request is forgiven (RFC 9112 §2.2).
            del buffer[:2]
            return bool(buffer) or await self._wait_idle()
        return True

    async def _wait_idle(self) -> bool:
        with trio.CancelScope() as scope:
            self.idle_scope = scope
            try:
                return await self._wire.fill(self._limits.idle_timeout_s)
            finally:
                self.idle_scope = None
        raise ClientGoneError("the connection was closed to make room")

    async def _read_head(self, judge: h11.Connection) -> RequestHead:
        """The next request's head, accepted by the strict reading and by h11."""
        with trio.move_on_after(self._limits.header_timeout_s):
            try:
                raw = await self._wire.read_head(HeadScanner(self._limits.head_bytes_max))
                head = parse_request_head(raw, self._limits.head_lines_max, self._limits.target_bytes_max)
            except BadHeadError as error:
                raise RefusedRequestError(error.status, error.reason) from error
            try:
                judge.receive_data(raw)
                event = judge.next_event()
            except h11.RemoteProtocolError as error:
                raise RefusedRequestError(error.error_status_hint, "This request is malformed.") from error
            assert isinstance(event, h11.Request), "h11 saw no request in a head that ends with an empty line"
            return head
        raise RefusedRequestError(408)

    async def _refuse(
        self, judge: h11.Connection, refusal: RefusedRequestError, head: RequestHead | None, request_id: bytes
    ) -> bool:
        """Answer with a page; True when the connection may go on."""
        keep_alive = refusal.may_keep_alive and head is not None and head.wants_keep_alive
        accept = head.first(b"accept") if head is not None else b""
        kind, page = error_page(refusal.status, accept, request_id, refusal.reason)
        fields = [
            (b"Date", formatdate(self._traffic.clock.wall() / 1000, usegmt=True).encode("ascii")),
            (b"Content-Type", kind),
            (b"Content-Length", b"%d" % len(page)),
            (b"Cache-Control", b"no-store"),
            (b"X-Request-Id", request_id),
        ]
        if refusal.status == 503:
            fields.append((b"Retry-After", b"1"))
        if refusal.status == 405:
            fields.append((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
        if not keep_alive:
            fields.append((b"Connection", b"close"))
        self._traffic.counters.responses[refusal.status // 100] += 1
        phrase = HTTPStatus(refusal.status).phrase.encode("ascii")
        payload = judge.send(h11.Response(status_code=refusal.status, headers=fields, reason=phrase))
        is_bodiless = head is not None and head.method == b"HEAD"
        await self._wire.send(payload if is_bodiless else payload + page)
        return keep_alive
