"""Connections between members: one message there, one back, or a failure."""

from typing import Final, Protocol

import msgspec

from gossip.codec.streams import StreamReader
from gossip.effects import OpenStream
from gossip.events import IoEvent, StreamFailed, StreamReceived, StreamReplied
from gossip.messages import Address, StreamMessage
from simulations.network import Network
from simulations.world import Timer, World

RETRANSMIT_S: Final = 0.2
"""Linux waits at least so long for a lost segment, and twice as long for the next."""
HANDSHAKE: Final = 3
"""One-way trips until the request is there: two to connect, one with it."""


class Endpoint(Protocol):
    """Who listens at an address."""

    def hear(self, event: IoEvent) -> None:
        """Take in an event, now or when it gets round to it."""
        ...

    def stream_input(self) -> StreamReader:
        """For the bytes of one stream."""
        ...


class _Exchange(msgspec.Struct):
    """A connection from `opener`, who calls it `number`, to `to`."""

    opener: Address
    number: int
    to: Address
    deadline: Timer


class Streams:
    """All connections of a group; they stand on the network of the packets, with its cuts and its losses.

    `bytes_sent` counts what was said, by speaker.
    """

    def __init__(self, world: World, network: Network[bytes]) -> None:
        self.bytes_sent: dict[Address, int] = {}
        self.opened = 0
        self._world = world
        self._network = network
        self._chance = world.chance("streams")
        self._endpoints: dict[Address, Endpoint] = {}
        self._exchanges: dict[int, _Exchange] = {}

    def attach(self, address: Address, endpoint: Endpoint) -> None:
        """From now on `endpoint` is connected to at `address`."""
        self._endpoints[address] = endpoint

    def detach(self, address: Address) -> None:
        """Nobody listens there any more: its own exchanges vanish, those of others with it are broken off."""
        self._endpoints.pop(address, None)
        for stream, exchange in list(self._exchanges.items()):
            if exchange.opener == address:
                self._end(stream)
            elif exchange.to == address:
                self._world.after(self._travel_s(1), lambda stream=stream: self._fail(stream, "connection reset"))  # type: ignore[misc]

    def open(self, opener: Address, order: OpenStream) -> None:
        """Do what a driver does with `order`."""
        self.opened += 1
        stream = self.opened
        deadline = self._world.after(order.timeout_s, lambda: self._fail(stream, "no answer in time"))
        self._exchanges[stream] = _Exchange(opener, order.exchange, order.to, deadline)
        self._count(opener, order.data)
        self._world.note(f"{opener.host} connects to {order.to.host}", order.data)
        self._world.after(self._travel_s(HANDSHAKE), lambda: self._arrive(stream, order))

    def reply(self, stream: int, data: bytes) -> None:
        """The one who was connected to answers; nothing happens when that comes too late."""
        exchange = self._exchanges.get(stream)
        if exchange is None:
            return
        self._count(exchange.to, data)
        self._world.note(f"{exchange.to.host} answers {exchange.opener.host}", data)
        self._world.after(self._travel_s(1), lambda: self._arrive_back(stream, data))

    def _count(self, speaker: Address, data: bytes) -> None:
        self.bytes_sent[speaker] = self.bytes_sent.get(speaker, 0) + len(data)

    def _travel_s(self, trips: int) -> float:
        """How long so many one-way trips take; what is lost on the way is sent again."""
        conditions = self._network.conditions
        total_s = 0.0
        for _ in range(trips):
            total_s += conditions.delay_s_min + self._chance.pause_s(conditions.delay_s_mean)
            again_s = RETRANSMIT_S
            while self._chance.happens(conditions.loss):
                total_s += again_s
                again_s *= 2
        return total_s

    def _is_cut(self, exchange: _Exchange) -> bool:
        """Either direction: a connection needs both."""
        return self._network.is_cut(exchange.opener, exchange.to) or self._network.is_cut(exchange.to, exchange.opener)

    def _arrive(self, stream: int, order: OpenStream) -> None:
        exchange = self._exchanges.get(stream)
        if exchange is None or self._is_cut(exchange):
            return  # its deadline ends it
        endpoint = self._endpoints.get(exchange.to)
        if endpoint is None:
            self._fail(stream, "connection refused")
            return
        message = self._read(endpoint, order.data)
        if not order.wants_reply:
            self._end(stream)
        if message is not None:
            endpoint.hear(StreamReceived(stream=stream, source=exchange.opener, message=message))
        elif order.wants_reply:
            self._fail(stream, "the stream ended without an answer")

    def _arrive_back(self, stream: int, data: bytes) -> None:
        exchange = self._exchanges.get(stream)
        if exchange is None or self._is_cut(exchange):
            return
        endpoint = self._endpoints.get(exchange.opener)
        message = None if endpoint is None or not data else self._read(endpoint, data)
        if endpoint is None or message is None:
            self._fail(stream, "the stream ended without an answer")
            return
        self._end(stream)
        endpoint.hear(StreamReplied(exchange=exchange.number, message=message))

    @staticmethod
    def _read(endpoint: Endpoint, data: bytes) -> StreamMessage | None:
        try:
            return endpoint.stream_input().feed(data)
        except ValueError:
            return None  # sealed with a key that it has not: the driver counts that, and closes

    def _fail(self, stream: int, reason: str) -> None:
        exchange = self._exchanges.get(stream)
        if exchange is None:
            return
        self._end(stream)
        endpoint = self._endpoints.get(exchange.opener)
        if endpoint is not None:
            endpoint.hear(StreamFailed(exchange=exchange.number, reason=reason))

    def _end(self, stream: int) -> None:
        self._exchanges.pop(stream).deadline.cancel()
