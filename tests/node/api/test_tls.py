"""The API over TLS with a node's certificate: for who believes the cluster's CA, and for nobody else."""

import contextlib
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from node.api.server import ApiListen
from node.trust.credentials import pem_of
from orca.client import Credentials, ExecOutput, NodeAddress, find_credentials, open_client, parse_address, plain_reads
from orca.errors import InvalidRequestError, NodeUnreachableError, UnauthorizedError
from orca.model.trust import ApiRole
from tests.node.api.control import COPY, FakeControl
from tests.node.api.raw import serving
from tests.node.trust.cluster import Member

pytestmark = pytest.mark.integration


@pytest.fixture
async def member() -> Member:
    return Member(at_ms=int(time.time() * 1000))


@pytest.fixture
async def control() -> FakeControl:
    return FakeControl()


@contextlib.asynccontextmanager
async def secured(control: FakeControl, member: Member) -> AsyncGenerator[NodeAddress, None]:
    listen = ApiListen(host="127.0.0.1", tls=member.credentials.web_context)
    async with serving(control, listen, trusts_loopback=False) as addresses:
        yield NodeAddress(host=addresses.tcp[0][0], port=addresses.tcp[0][1], is_tls=True)


def ca_file(member: Member, directory: Path) -> str:
    path = directory / "ca.pem"
    path.write_text(pem_of(member.authority.certificate))
    return str(path)


async def test_reads_changes_and_sessions_go_over_tls(member: Member, control: FakeControl, tmp_path: Path) -> None:
    token = control.access.add("ops", ApiRole.ADMIN).text
    credentials = Credentials(token=token, ca_file=ca_file(member, tmp_path))
    async with secured(control, member) as address:
        async with open_client(address, credentials=credentials) as client:
            assert (await client.status()).leader
            assert (await client.pause_gossip(is_paused=True)).is_paused
            async with client.exec(COPY, ("cat",), stdin=True) as channel:
                assert await channel.receive() == (ExecOutput.STDERR, b"cat")
                await channel.send(b"x" * 300_000)
                got = b""
                while len(got) < 300_000:
                    piece = await channel.receive()
                    assert piece is not None
                    got += piece[1]
        reads = plain_reads(address, credentials=credentials)
        assert (await trio.to_thread.run_sync(lambda: trio.run(reads.status))).leader
        async with open_client(address, credentials=Credentials(ca_file=credentials.ca_file)) as client:
            with pytest.raises(UnauthorizedError):
                await client.status()


async def test_a_node_of_another_ca_and_one_without_tls_get_no_token(
    member: Member, control: FakeControl, tmp_path: Path
) -> None:
    token = control.access.add("ops", ApiRole.ADMIN).text
    for known in (ca_file(Member(), tmp_path), ""):
        credentials = Credentials(token=token, ca_file=known)
        async with secured(control, member) as address, open_client(address, credentials=credentials) as client:
            with pytest.raises(NodeUnreachableError, match=r"TLS failed|certificate"):
                await client.status()
            with pytest.raises(NodeUnreachableError):
                await trio.to_thread.run_sync(
                    lambda address=address, credentials=credentials: trio.run(  # type: ignore[misc]
                        plain_reads(address, credentials=credentials).status
                    )
                )
    async with secured(control, member) as address:
        plain = NodeAddress(host=address.host, port=address.port)
        async with open_client(plain, credentials=Credentials(token=token)) as client:
            with pytest.raises(NodeUnreachableError):
                await client.status()
    assert not control.calls


async def test_who_connects_and_never_greets_is_let_go_and_others_are_served(
    member: Member, control: FakeControl, tmp_path: Path
) -> None:
    token = control.access.add("ops", ApiRole.VIEWER).text
    credentials = Credentials(token=token, ca_file=ca_file(member, tmp_path))
    async with secured(control, member) as address, contextlib.AsyncExitStack() as stack:
        for number in range(50):
            stream = await stack.enter_async_context(await trio.open_tcp_stream(address.host, address.port))
            if number % 2:
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        async with open_client(address, credentials=credentials) as client:
            assert (await client.status()).leader


def test_addresses_and_tokens_are_found_where_people_put_them(tmp_path: Path) -> None:
    assert parse_address("https://10.0.0.5") == NodeAddress(host="10.0.0.5", port=6880, is_tls=True)
    assert str(parse_address("https://[::1]:7000")) == "https://[::1]:7000"
    file = tmp_path / "token"
    file.write_text("orca-api-abcd-efgh\nmore\n")
    assert find_credentials({}).token == ""
    assert find_credentials({"ORCA_TOKEN": "a", "ORCA_TOKEN_FILE": str(file)}).token == "a"
    assert find_credentials({"ORCA_TOKEN_FILE": str(file)}).token == "orca-api-abcd-efgh"
    assert find_credentials({"ORCA_TOKEN": "a"}, f"@{file}", "ca").token == "orca-api-abcd-efgh"
    assert find_credentials({"ORCA_CA": "x"}).ca_file == "x"
    for wrong in ("a b", "@/nowhere/at/all", "\u00e9"):
        with pytest.raises(InvalidRequestError):
            find_credentials({}, wrong)
    with pytest.raises(InvalidRequestError, match="CA file"):
        Credentials(ca_file=str(file)).tls()
