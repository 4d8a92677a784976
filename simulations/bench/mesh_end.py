"""One process of the mesh bench: a node's mesh, or the yardstick's end. `simulations.bench.mesh` starts it.

python -m simulations.bench.mesh_end mesh|echo|sink FOLDER
python -m simulations.bench.mesh_end crowd FOLDER PORT COUNT
"""

import random
import socket
import ssl
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

import trio

from node.mesh.driver import Mesh, MeshAddress
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.mesh.streams import MeshStream
from orca.model.ids import NodeId
from simulations.bench.authority import CLUSTER, Authority

NEAR: Final = NodeId("n-a")
FAR: Final = NodeId("n-b")
PIECE_BYTES: Final = 64 * 1024
HOST: Final = "127.0.0.1"
READY: Final = b"\1"


def mesh_of(node: NodeId, folder: Path, places: dict[NodeId, MeshAddress]) -> Mesh:
    """A mesh with a certificate of the bench's authority."""
    credentials = Authority(folder, CLUSTER).credentials(node)
    return Mesh(node, random.Random(), address_of=places.get, credentials=credentials)


def latency(sent: bytes) -> float:
    """Seconds since `sent` was stamped, on the clock that processes share."""
    return time.monotonic() - float.fromhex(sent.decode())


class Far:
    """Echoes calls, swallows bulk, and reports how long Raft messages were under way."""

    def __init__(self, folder: Path) -> None:
        self.mesh = mesh_of(FAR, folder, {})
        self.latencies: list[float] = []

    async def raft(self, _peer: NodeId, frames: FrameStream) -> None:
        """Note when each came."""
        while batch := await frames.receive_some():
            self.latencies += map(latency, batch)

    async def standing(self, _peer: NodeId, frames: FrameStream) -> None:
        """Say how long they were under way, and forget it."""
        await frames.send([one.hex().encode() for one in self.latencies] or [b"0x0p0"])
        self.latencies.clear()

    async def echo(self, _peer: NodeId, stream: MeshStream, _subject: bytes) -> None:
        """Give back what comes."""
        while data := await stream.receive_some():
            await stream.send_all(data)

    async def swallow(self, _peer: NodeId, stream: MeshStream, _subject: bytes) -> None:
        """Take all, and say so at the end."""
        while await stream.receive_some():
            pass
        await stream.send_all(READY)

    async def run(self) -> None:
        """Until killed."""
        async with trio.open_nursery() as nursery:
            handlers = {Purpose.RAFT: self.raft, Purpose.STANDING: self.standing}
            streams = {Purpose.TUNNEL: self.echo, Purpose.CONTENT: self.swallow}
            address = await nursery.start(partial(self.mesh.run, handlers, HOST, 0, stream_handlers=streams))
            print(address.port, flush=True)


async def crowd(folder: Path, port: int, count: int) -> None:
    """So many nodes with a connection to the one at `port`, which have nothing to say."""
    places = {NEAR: MeshAddress(HOST, port)}
    async with trio.open_nursery() as nursery:
        for number in range(count):
            node = mesh_of(NodeId(f"n-{number:02}"), folder, places)
            await nursery.start(node.run, {}, HOST, 0)
            async with node.connect(NEAR, Purpose.STANDING) as frames:
                await frames.receive()
        print(count, flush=True)


def bare_server_context(folder: Path) -> ssl.SSLContext:
    """What the yardsticks listen with: the same certificate and the same checks."""
    return Authority(folder, CLUSTER).credentials(FAR).server_context()


async def bare_echo(context: ssl.SSLContext) -> None:
    """TLS on trio: gives back what comes."""

    async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
        stream.transport_stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await stream.receive_some():
            await stream.send_all(data)

    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    print(listener.socket.getsockname()[1], flush=True)
    await trio.serve_listeners(echo, [trio.SSLListener(listener, context, https_compatible=True)])


def bare_sink(context: ssl.SSLContext) -> None:
    """Blocking `ssl`: takes all of one connection after the other, and says so at each end."""
    with socket.create_server((HOST, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        buffer = bytearray(4 * PIECE_BYTES)
        while True:
            sock, _ = listener.accept()
            with context.wrap_socket(sock, server_side=True) as stream:
                left = int.from_bytes(stream.recv(8), "big")
                while left:
                    left -= stream.recv_into(buffer)
                stream.sendall(READY)


def main() -> None:
    """Be what the first word says."""
    kind, folder, *rest = sys.argv[1:]
    match kind:
        case "mesh":
            trio.run(Far(Path(folder)).run)
        case "crowd":
            port, count = map(int, rest)
            trio.run(crowd, Path(folder), port, count)
        case "echo":
            trio.run(bare_echo, bare_server_context(Path(folder)))
        case "sink":
            bare_sink(bare_server_context(Path(folder)))
        case _:
            raise SystemExit(f"no end is called {kind}")


if __name__ == "__main__":
    main()
