"""A proxy with certificates, and clients that speak TLS to it."""

import ssl

import trio

from node.proxy.certificates import Chain, build_certificate_table
from tests.certificates import TestAuthority
from tests.node.proxy.proxy_world import Peer, World

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
CLOSING_GET = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"


def show(world: World, authority: TestAuthority, *names: str, anonymous: bool = False) -> None:
    """One certificate for each of `names`; with `anonymous` the first is for clients that name nobody."""
    chains = [Chain(names=(name,), pem=authority.chain(name)) for name in names]
    world.proxy.set_certificates(build_certificate_table(chains, chains[0] if anonymous else None))


class TlsPeer(Peer):
    """A client that speaks through TLS."""

    def __init__(self, stream: trio.SocketStream, tls: "trio.SSLStream[trio.SocketStream]") -> None:
        super().__init__(stream)
        self.tls = tls

    async def send(self, payload: bytes) -> None:
        await self.tls.send_all(payload)

    async def more(self) -> bool:
        got = await self.tls.receive_some(65536)
        self.buffer += got
        self.received += got
        return bool(got)

    def names(self) -> list[str]:
        """What the certificate that was shown is for."""
        shown = self.tls.getpeercert()
        return [value for _, value in shown["subjectAltName"]]


async def connect(world: World, context: ssl.SSLContext, name: str | None = "a.example") -> TlsPeer:
    stream = await trio.open_tcp_stream("127.0.0.1", world.tls_port)
    tls = trio.SSLStream(stream, context, server_hostname=name)
    peer = TlsPeer(stream, tls)
    world.clients.append(peer)
    await tls.do_handshake()
    return peer
