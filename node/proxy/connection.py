"""One request of a client, the long way: its head read and judged, then carried, or refused with a page."""

from email.utils import formatdate
from http import HTTPStatus

import h11
import trio

from node.proxy.carriage import Handover
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
from node.proxy.wires import Connected, Wire


class ClientConnection:
    """Has one request of a client answered, the long way. `received` is what the client has sent already.

    With `handover` the first request in it is on its way to a target.
    """

    def __init__(
        self, traffic: Traffic, connected: Connected, peer: str, received: bytes, handover: Handover | None
    ) -> None:
        self._traffic = traffic
        self._limits = traffic.limits
        self._wire = Wire(connected, ClientGoneError, traffic.limits.stall_timeout_s)
        self._wire.buffer += received
        self._peer = peer
        self._handover = handover
        self._exchange: Exchange | None = None

    async def run(self) -> bytes | None:
        """What the client has sent after its request when another one may follow; None when the connection is over.

        It is closed then, and whenever this raises.
        """
        rest: bytes | None = None
        try:
            if await self._serve_one():
                rest = bytes(self._wire.buffer)
            else:
                await self._wire.close_gently(self._limits.linger_timeout_s)
        except ClientGoneError:
            pass  # Nobody is left to tell.
        except UpstreamLostError:
            # Part of an answer is out: only the reset below says that the rest will not come.
            self._traffic.counters.broken += 1
        finally:
            if rest is None:
                if self._exchange is not None and self._exchange.has_answered:
                    self._wire.reset()
                self._wire.close()
        return rest

    async def _serve_one(self) -> bool:
        """Answer the next request; True when another may follow.

        Raises ClientGoneError, and UpstreamLostError when an answer broke off.
        """
        judge = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes_max)
        if not await self._has_more():
            return True
        try:
            head = await self._read_head(judge)
        except RefusedRequestError as error:
            self._traffic.counters.requests += 1
            await self._refuse(h11.Connection(h11.SERVER), error, None, self._traffic.fresh_request_id())
            return False
        self._traffic.counters.requests += 1
        begun = self._handover
        request_id = begun.request_id if begun else sane_request_id(head) or self._traffic.fresh_request_id()
        exchange = Exchange(self._traffic, self._wire, judge, head, peer=self._peer, request_id=request_id)
        exchange.handover = begun
        self._exchange = exchange
        try:
            may_continue = await exchange.run()
        except RefusedRequestError as error:
            if exchange.has_answered:
                raise UpstreamLostError(f"the request went wrong after its answer began: {error.reason}") from error
            if error.status >= 500:
                self._traffic.failed(exchange.service)
            may_continue = await self._refuse(judge, error, head, request_id)
        except UpstreamLostError as error:
            if exchange.has_answered:
                raise
            status = 504 if error.is_timeout else 502
            self._traffic.failed(exchange.service)
            page = RefusedRequestError(status, may_keep_alive=exchange.is_request_read)
            may_continue = await self._refuse(judge, page, head, request_id)
        self._exchange = None
        return may_continue

    async def _has_more(self) -> bool:
        """Whether a request has begun; one empty line before it is forgiven (RFC 9112 §2.2)."""
        buffer = self._wire.buffer
        if buffer == b"\r":
            await self._wire.fill(self._limits.header_timeout_s)
        if buffer[:2] == b"\r\n":
            del buffer[:2]
        return bool(buffer)

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
        if refusal.location:
            fields.append((b"Location", refusal.location.encode("ascii")))
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
