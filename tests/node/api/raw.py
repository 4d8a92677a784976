"""The API over real sockets, and a client that is nothing but bytes."""

import contextlib
from collections.abc import AsyncGenerator
from functools import partial

import msgspec
import trio

from node.api.server import ApiAddresses, ApiListen, serve_api
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


@contextlib.asynccontextmanager
async def serving(
    control: FakeControl, listen: ApiListen | None = None, limits: HttpLimits | None = None
) -> AsyncGenerator[ApiAddresses, None]:
    async with trio.open_nursery() as nursery:
        chosen = listen or ApiListen(host="127.0.0.1")
        yield await nursery.start(partial(serve_api, control, chosen, limits=limits))
        nursery.cancel_scope.cancel()


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
