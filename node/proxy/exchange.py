"""One request carried to a target and its answer carried back."""

import math

import h11
import trio

from node.proxy.bodies import LAST_CHUNK, BodyReader, encode_chunk, make_reader
from node.proxy.carriage import Handover
from node.proxy.faults import (
    BadBodyError,
    BadHeadError,
    ClientGoneError,
    RefusedRequestError,
    UpstreamLostError,
)
from node.proxy.forwarding import (
    is_answer_to_upgrade,
    is_replayable,
    may_reuse_after,
    request_fields,
    response_fields,
)
from node.proxy.heads import Framing, HeadScanner, RequestHead, ResponseHead, parse_response_head
from node.proxy.routes import Route, Target
from node.proxy.traffic import Traffic
from node.proxy.tunnel import run_tunnel
from node.proxy.wires import Wire
from orca.model.ids import AllocationId, ServiceId

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """Carries one request; made by a connection, run once.

    `judge` is h11's view of the client's connection, with the request already in it: it
    writes the heads that the client gets. `has_answered` is set just before the first
    byte of a final answer is sent; after that a failure can only break the answer off.
    """

    def __init__(
        self, traffic: Traffic, client: Wire, judge: h11.Connection, head: RequestHead, *, peer: str, request_id: bytes
    ) -> None:
        self.has_answered = False
        self.handover: Handover | None = None
        """Set when the request is on its way already: where it went."""
        self._traffic = traffic
        self._limits = traffic.limits
        self._client = client
        self._judge = judge
        self._head = head
        self._peer = peer
        self._request_id = request_id
        self._body: BodyReader = make_reader(head.framing, head.length)
        self._keep_alive = head.wants_keep_alive
        self._is_uploaded = False
        self._upload_failure: RefusedRequestError | ClientGoneError | None = None
        self._head_scope = trio.CancelScope()
        self._watch_scope = trio.CancelScope()
        self._queue_deadline = math.inf
        self._since = traffic.clock.now()
        self.service = ServiceId("")
        """Whom it is for; empty as long as that is not known."""

    @property
    def is_request_read(self) -> bool:
        """Whether the client's next bytes are another request."""
        return self._body.is_over

    async def run(self) -> bool:
        """Try targets until one answers; True when the client may send another request.

        While no copy is ready, or every one refuses connections, the request waits for a change.

        Raises RefusedRequestError (404, 503, or a malformed body), UpstreamLostError and
        ClientGoneError.
        """
        tried: list[AllocationId] = []
        failure: UpstreamLostError | None = None
        while len(tried) < self._limits.attempts_max:
            begun = self.handover
            route, target = (begun.route, begun.target) if begun else self._traffic.choose(self._head, tried)
            self.service = route.service
            if route.to_https and not begun:
                self._send_to_https(route)
            if target is None:
                if not await self._wait_for_copy(route):
                    break
                tried.clear()
                continue
            if failure is not None:
                self._traffic.counters.retries += 1
            tried.append(target.allocation)
            with self._traffic.serving(target.allocation) as scope:
                try:
                    return await self._through(route, target)
                except UpstreamLostError as error:
                    failure = error
            self._traffic.counters.upstream_errors += 1
            if scope.cancelled_caught:
                raise UpstreamLostError("the target was drained")
            assert failure is not None, "an attempt ended without an answer and without a reason"
            if not failure.is_unsent and not (failure.is_silent and is_replayable(self._head)):
                break
        if failure is None:
            raise RefusedRequestError(503, may_keep_alive=not self._head.has_body)
        raise failure

    def _send_to_https(self, route: Route) -> None:
        """Raise RefusedRequestError (308) for a request in the clear whose host has a certificate."""
        said = self._head.first(b"x-forwarded-proto") if self._traffic.is_trusted(self._peer) else b""
        if (said or self._client.scheme.encode()) == b"https":
            return
        place = self._traffic.secure_place(self._head)
        if place is not None:
            self._traffic.not_sent(route)
            raise RefusedRequestError(308, may_keep_alive=not self._head.has_body, location=place)

    async def _wait_for_copy(self, route: Route) -> bool:
        """Wait for a copy that may take the request; False when there is none in time.

        Copies that refuse connections have mostly just died, and the table will say so in a moment. Raises
        ClientGoneError when the client leaves meanwhile.
        """
        patience_s = min(route.queue_timeout_s, self._limits.refused_patience_s if route.targets else math.inf)
        self._queue_deadline = min(self._queue_deadline, trio.current_time() + route.queue_timeout_s)
        deadline = min(self._queue_deadline, trio.current_time() + patience_s)
        has_copy = has_left = False

        async def watch() -> None:
            nonlocal has_left
            await self._client.wait_reset()
            has_left = True
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            has_copy = await self._traffic.wait_for_copy(self._head, route, deadline)
            nursery.cancel_scope.cancel()
        if has_left:
            raise self._client.left()
        return has_copy

    async def _through(self, route: Route, target: Target) -> bool:
        wire = self.handover.wire if self.handover else self._traffic.pool.take(target)
        if wire is not None:
            try:
                return await self._converse(wire, route, target)
            except UpstreamLostError as error:
                # A kept connection may die at any time; that says nothing about the target.
                if not error.is_silent or not is_replayable(self._head):
                    raise
                self._traffic.counters.retries += 1
        wire = await self._traffic.pool.connect(target)
        return await self._converse(wire, route, target)

    async def _converse(self, wire: Wire, route: Route, target: Target) -> bool:
        """Send the request over `wire` and relay the answer; keeps or closes `wire`."""
        try:
            is_reusable = await self._send_and_relay(wire, route, target)
        except BaseException:
            wire.reset()
            raise
        finally:
            wire.partner = None
        if is_reusable:
            self._traffic.pool.put(target, wire)
        else:
            wire.close()
        return self._keep_alive and self.is_request_read

    async def _send_and_relay(self, wire: Wire, route: Route, target: Target) -> bool:
        pilot = h11.Connection(h11.CLIENT)
        self._head_scope, self._watch_scope = trio.CancelScope(), trio.CancelScope()
        self.service = route.service
        payload = self._request_bytes(pilot, route, target)
        begun, self.handover = self.handover, None
        if begun is not None:
            self._buffered_body()  # it went out with the head
            return await self._send_then_relay(wire, pilot, begun.unsent, begun.waited_s)
        if self._head.expects_continue and self._head.has_body:
            await wire.send(payload)
            early = await self._await_continue(wire, pilot)
            if early is not None:
                self._keep_alive = False
                return await self._relay_answer(wire, early)
            payload = b""
        if self._head.has_body:
            payload += self._buffered_body()
        if not self._head.has_body or self._is_uploaded:
            return await self._send_then_relay(wire, pilot, payload)
        return await self._stream_both_ways(wire, pilot, payload)

    def _request_bytes(self, pilot: h11.Connection, route: Route, target: Target) -> bytes:
        address = f"[{target.host}]" if ":" in target.host else target.host
        is_stripped = route.strip_path and self._head.target != "*"
        fields = request_fields(
            self._head,
            peer=self._peer,
            scheme=self._client.scheme,
            request_id=self._request_id,
            prefix=route.prefix if is_stripped else "",
            host=f"{address}:{target.host_port}",
            is_trusted=self._traffic.is_trusted(self._peer),
        )
        forwarded = route.forwarded_target(self._head.target)
        return pilot.send(h11.Request(method=self._head.method, target=forwarded, headers=fields))

    def _buffered_body(self) -> bytes:
        """What of the body is here already, framed; the whole of it for most requests."""
        payload = self._take_upload()
        if self._body.is_over:
            self._is_uploaded = True
            if self._head.framing is Framing.CHUNKED:
                payload += LAST_CHUNK
        return payload

    def _take_upload(self) -> bytes:
        try:
            piece = self._body.take(self._client.buffer)
        except BadBodyError as error:
            raise RefusedRequestError(400, "The body of this request is malformed.") from error
        return encode_chunk(piece) if piece and self._head.framing is Framing.CHUNKED else piece

    async def _await_continue(self, wire: Wire, pilot: h11.Connection) -> ResponseHead | None:
        """Let the target decide whether it wants the body: its final answer if it does not."""
        answer = None
        with trio.move_on_after(self._limits.continue_timeout_s):
            answer = await self._read_answer_head(wire, pilot, stop_at_continue=True)
            if answer is not None:
                return answer
        await self._client.send(_CONTINUE)
        return None

    async def _send_then_relay(self, wire: Wire, pilot: h11.Connection, payload: bytes, waited_s: float = 0.0) -> bool:
        self._is_uploaded = True
        send_failure: UpstreamLostError | None = None
        try:
            await wire.send(payload)
        except UpstreamLostError as error:
            # It may have answered before it stopped listening.
            send_failure = error
        self._head_scope.deadline = trio.current_time() + self._limits.response_timeout_s - waited_s
        wire.partner = self._client  # nobody reads it until the answer is out
        answer = await self._wait_for_answer(wire, pilot)
        return await self._relay_answer(wire, answer) and send_failure is None

    async def _stream_both_ways(self, wire: Wire, pilot: h11.Connection, payload: bytes) -> bool:
        """The body goes up while the answer may already come down."""
        failure: UpstreamLostError | ClientGoneError | RefusedRequestError | None = None
        is_reusable = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upload, wire, payload, nursery.cancel_scope)
            try:
                is_reusable = await self._relay_answer(wire, await self._wait_for_answer(wire, pilot))
            except (UpstreamLostError, ClientGoneError, RefusedRequestError) as error:
                failure = error
            nursery.cancel_scope.cancel()
        if self._upload_failure is not None:
            raise self._upload_failure
        if failure is not None:
            raise failure
        return is_reusable and self._is_uploaded

    async def _upload(self, wire: Wire, payload: bytes, exchange_scope: trio.CancelScope) -> None:
        try:
            if payload:
                await wire.send(payload)
            while not self._body.is_over:
                piece = self._take_upload()
                if piece:
                    await wire.send(piece)
                elif not self._body.is_over and not await self._client.fill():
                    self._upload_failure = ClientGoneError("the client ended inside a body")
                    break
            else:
                if self._head.framing is Framing.CHUNKED:
                    await wire.send(LAST_CHUNK)
                self._is_uploaded = True
        except UpstreamLostError:
            pass  # It may have answered before it stopped listening: wait as after a whole request.
        except RefusedRequestError as error:
            self._upload_failure = error
        except ClientGoneError as error:
            self._upload_failure = RefusedRequestError(408) if error.is_timeout else error
        self._head_scope.deadline = trio.current_time() + self._limits.response_timeout_s
        if self._upload_failure is None:
            with self._watch_scope:
                await self._client.wait_reset()
                self._upload_failure = ClientGoneError("the client reset its connection")
        if self._upload_failure is not None:
            exchange_scope.cancel()

    async def _wait_for_answer(self, wire: Wire, pilot: h11.Connection) -> ResponseHead:
        answer = None
        with self._head_scope:
            answer = await self._read_answer_head(wire, pilot)
        if answer is None:
            raise UpstreamLostError(f"no answer within {self._limits.response_timeout_s:g} s", is_timeout=True)
        return answer

    async def _read_answer_head(
        self, wire: Wire, pilot: h11.Connection, *, stop_at_continue: bool = False
    ) -> ResponseHead | None:
        """The final head, or a 101; interim ones are passed on. None for a 100 with `stop_at_continue`."""
        for _ in range(self._limits.interim_max):
            try:
                raw = await wire.read_head(HeadScanner(self._limits.head_bytes_max))
                answer = parse_response_head(raw, self._head.method)
                pilot.receive_data(raw)
                pilot.next_event()
            except BadHeadError as error:
                raise UpstreamLostError(f"the target's answer is malformed: {error.reason}") from error
            except h11.RemoteProtocolError as error:
                raise UpstreamLostError(f"the target's answer is malformed: {error}") from error
            except UpstreamLostError as error:
                raise UpstreamLostError(
                    error.reason, is_timeout=error.is_timeout, is_silent=not wire.has_heard
                ) from error
            if answer.status == 101 and not is_answer_to_upgrade(answer, self._head):
                raise UpstreamLostError("the target switched to a protocol that nobody asked for")
            if answer.status >= 200 or answer.status == 101:
                return answer
            if answer.status == 100 and stop_at_continue:
                return None
            await self._pass_interim(answer)
        raise UpstreamLostError("the target sent too many interim answers")

    async def _pass_interim(self, answer: ResponseHead) -> None:
        if answer.status != 100 and self._head.minor == 1:
            fields = response_fields(answer, self._head, request_id=self._request_id)
            interim = h11.InformationalResponse(status_code=answer.status, headers=fields, reason=answer.reason)
            # The deadline for the final answer must not cut this one in the middle.
            with trio.CancelScope(shield=True):
                await self._client.send(self._judge.send(interim))

    async def _relay_answer(self, wire: Wire, answer: ResponseHead) -> bool:
        """Send `answer` and its body to the client; True when `wire` is fit for another request."""
        fields = response_fields(answer, self._head, request_id=self._request_id)
        self.has_answered = True
        self._traffic.answered(self.service, answer.status, self._traffic.clock.now() - self._since)
        if answer.status == 101:
            switch = h11.InformationalResponse(status_code=101, headers=fields, reason=answer.reason)
            await self._client.send(self._judge.send(switch))
            self._keep_alive = False
            # From here on the tunnel reads the client.
            wire.partner = None
            self._watch_scope.cancel()
            if not await run_tunnel(self._client, wire, self._limits.tunnel_idle_timeout_s):
                self._client.reset()
                raise ClientGoneError("the tunnel broke off")
            return False
        if not self._keep_alive:
            fields.append((b"Connection", b"close"))
        response = h11.Response(status_code=answer.status, headers=fields, reason=answer.reason)
        await self._relay_body(wire, answer, self._judge.send(response))
        return answer.may_be_followed and not wire.buffer and may_reuse_after(self._head)

    async def _relay_body(self, wire: Wire, answer: ResponseHead, pending: bytes) -> None:
        body = make_reader(answer.framing, answer.length)
        is_encoded = self._head.minor == 1 and answer.framing in (Framing.CHUNKED, Framing.UNTIL_CLOSE)
        while True:
            try:
                piece = body.take(wire.buffer)
                if not piece and not body.is_over:
                    # What is here must not wait for what is not.
                    if pending:
                        await self._client.send(pending)
                        pending = b""
                    if not await wire.fill():
                        body.on_end_of_stream()
            except BadBodyError as error:
                raise UpstreamLostError(f"the target's answer broke off: {error}") from error
            if piece:
                pending += encode_chunk(piece) if is_encoded else piece
            if body.is_over:
                break
            if piece:
                await self._client.send(pending)
                pending = b""
        await self._client.send(pending + LAST_CHUNK if is_encoded else pending)
