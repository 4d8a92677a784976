"""The API over real sockets, and a client that is nothing but bytes."""

import contextlib
import os
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import trio

from consensus.state.commands import RecordDeed
from node.api.audit import AuditTrail
from node.api.authentication import Door, Gate
from node.api.caller import Peer, PeerKind
from node.api.far import Connector
from node.api.server import Api, ApiAddresses, ApiListen
from node.sources import SystemClock, SystemIds
from orca.http import HttpLimits
from tests.node.api.control import FakeControl


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        return msgspec.json.decode(self.body, type=dict[str, object])

    def error(self) -> dict[str, object]:
        return msgspec.convert(self.json()["error"], dict[str, object])


class Told:
    """What the audit was told, by command."""

    def __init__(self) -> None:
        self.deeds: list[RecordDeed] = []
        self._came = trio.Event()

    async def propose(self, command: RecordDeed) -> None:
        await trio.lowlevel.checkpoint()
        self.deeds.append(command)
        self._came.set()

    async def wait(self, count: int) -> None:
        """Return once it was told `count` things."""
        with trio.fail_after(20):
            while len(self.deeds) < count:
                self._came = trio.Event()
                await self._came.wait()


def make_api(
    control: FakeControl,
    *,
    told: Told | None = None,
    trusts_loopback: bool = True,
    owner_uid: int | None = None,
    connect: Connector | None = None,
    limits: HttpLimits | None = None,
) -> tuple[Api, AuditTrail]:
    """The API of `control`; its audit goes nowhere until the trail runs."""
    clock = SystemClock()
    uid = os.getuid() if owner_uid is None else owner_uid
    trust = Gate(control.tokens, clock.now, owner_uid=uid, trusts_loopback=trusts_loopback)
    trail = AuditTrail(clock, SystemIds(), (told or Told()).propose)
    return Api(control, trust, trail, connect=connect, limits=limits), trail


@contextlib.asynccontextmanager
async def serving(
    control: FakeControl, listen: ApiListen | None = None, limits: HttpLimits | None = None, **settings: Any
) -> AsyncGenerator[ApiAddresses, None]:
    api, trail = make_api(control, limits=limits, **settings)
    async with trio.open_nursery() as nursery:
        chosen = listen or ApiListen(host="127.0.0.1")
        nursery.start_soon(trail.run)
        yield await nursery.start(api.serve, chosen)
        nursery.cancel_scope.cancel()


async def serve_in_memory(control: FakeControl, stream: trio.abc.Stream) -> None:
    """One connection from this computer over `stream`, which has no address."""
    api, _ = make_api(control)
    door = Door(api.trust, Peer(kind=PeerKind.TCP, address="127.0.0.1", port=1))
    await api.converse(stream, door)


async def converse(address: tuple[str, int], sent: bytes) -> bytes:
    """Send `sent`, keep the sending half open, and read until the server closes."""
    stream = await trio.open_tcp_stream(*address)
    received = b""
    with trio.fail_after(20):
        async with stream:
            await stream.send_all(sent)
            with contextlib.suppress(trio.BrokenResourceError):
                async for piece in stream:
                    received += piece
    return received


def parse(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    if headers.get("transfer-encoding") == "chunked":
        body = dechunk(body)
    return Answer(status=int(first.split()[1]), headers=headers, body=body)


def dechunk(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        count = int(size, 16)
        whole, body = whole + body[:count], body[count + 2 :]
        if count == 0:
            break
    return whole


async def ask(address: tuple[str, int], method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
    fields = {"host": f"{address[0]}:{address[1]}", "connection": "close"}
    if body is not None:
        fields |= {"content-length": str(len(body)), "content-type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items() if v) + "\r\n"
    return parse(await converse(address, head.encode("latin-1") + (body or b"")))
