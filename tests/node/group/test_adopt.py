"""How a new node learns which cluster it is to join."""

import pytest
import trio
from trio.abc import HostnameResolver

from gossip.codec import PacketCodec
from node.group.adopt import find_cluster
from node.membership.tags import CLUSTER_TAG
from orca.errors import ConflictError
from orca.model.ids import ClusterId
from tests.gossip.live.member import live_member

pytestmark = pytest.mark.integration


class Names(HostnameResolver):
    """A resolver that knows one name, with the addresses that a test gives it; `looked_up` counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.looked_up = 0
        trio.socket.set_custom_hostname_resolver(self)  # until the end of this run

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def] # noqa: A002, ANN001
        self.looked_up += 1
        assert host == b"seeds.test"
        return [(trio.socket.AF_INET, type, proto, "", (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def] # noqa: ANN001
        raise NotImplementedError


async def test_every_address_of_a_name_is_tried() -> None:
    """Nobody listens at the first one."""
    names = Names("127.0.0.9", "127.0.0.1")
    async with live_member("n-a", tags={CLUSTER_TAG: "c-1"}) as member:
        with trio.fail_after(20):
            found = await find_cluster((f"seeds.test:{member.address.port}",), PacketCodec(None))
    assert found == ClusterId("c-1")
    assert names.looked_up == 1


async def test_a_name_is_looked_up_again_until_somebody_is_there() -> None:
    names = Names("127.0.0.9")
    async with live_member("n-a", tags={CLUSTER_TAG: "c-1"}) as member, trio.open_nursery() as nursery:

        async def move() -> None:
            while names.looked_up < 2:  # noqa: ASYNC110 - the resolver is asked by the code under test
                await trio.sleep(0.02)
            names.addresses = ("127.0.0.1",)

        nursery.start_soon(move)
        with trio.fail_after(20):
            seeds = (f"seeds.test:{member.address.port}",)
            assert await find_cluster(seeds, PacketCodec(None)) == ClusterId("c-1")
    assert names.looked_up >= 2


async def test_members_of_two_clusters_are_no_answer() -> None:
    async with live_member("n-a", tags={CLUSTER_TAG: "c-1"}) as one, live_member("n-b", tags={CLUSTER_TAG: "c-2"}) as b:
        await b.join(one.address)
        await one.sees({"n-a": "alive", "n-b": "alive"})
        with trio.fail_after(20), pytest.raises(ConflictError, match="c-1, c-2"):
            await find_cluster((str(one.address),), PacketCodec(None))
