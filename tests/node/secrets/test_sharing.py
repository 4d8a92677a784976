"""Secrets over a real mesh: a worker gets what its own copies use, and nothing else."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from node.mesh.driver import Mesh, MeshAddress
from node.mesh.purpose import Purpose
from node.secrets import SecretSharing, SecretValues
from orca.errors import ForbiddenError, NotAvailableError
from orca.model.ids import NodeId, SecretId
from tests.node.mesh.credentials import TrustedCluster
from tests.node.secrets.parts import Group, OneKeyVault
from tests.node.secrets.test_values import COPY, DB, SHARED, SPEC, placed, sealed

pytestmark = pytest.mark.integration
MEMBER, WORKER = NodeId("n-member"), NodeId("n-worker")


@pytest.fixture
def cluster() -> Iterator[TrustedCluster]:
    made = TrustedCluster()
    yield made
    made.close()


@asynccontextmanager
async def worker_of(cluster: TrustedCluster, group: Group, vault: OneKeyVault) -> AsyncIterator[SecretValues]:
    """What a worker without a key has of a member with `vault`; both follow the state of `group`."""
    places: dict[NodeId, MeshAddress] = {}
    made: dict[NodeId, SecretValues] = {}
    async with trio.open_nursery() as nursery:
        for node, own in ((MEMBER, vault), (WORKER, OneKeyVault(is_shut=True))):
            mesh = Mesh(node, random.Random(1), address_of=places.get, credentials=cluster.credentials(node))
            sharing = SecretSharing(lambda: group.state, mesh, members=lambda: [MEMBER])
            made[node] = sharing.values = SecretValues(lambda: group.state, own, sharing)
            places[node] = await nursery.start(partial(mesh.run, {Purpose.SECRETS: sharing.serve}, "127.0.0.1", 0))
        yield made[WORKER]
        nursery.cancel_scope.cancel()


async def test_a_worker_is_given_the_values_of_the_copy_that_it_is_to_run(cluster: TrustedCluster) -> None:
    vault = OneKeyVault()
    group = sealed(vault, {DB: b"x", SHARED: b"\x00y"})
    placed(group, node=WORKER)
    async with worker_of(cluster, group, vault) as values:
        assert await values.of(COPY, SPEC) == {"db": b"x", "key": b"\x00y"}


async def test_a_worker_that_is_not_to_run_the_copy_is_refused_and_says_why(cluster: TrustedCluster) -> None:
    vault = OneKeyVault()
    group = sealed(vault, {DB: b"x", SHARED: b"y"})
    placed(group, node=MEMBER)
    async with worker_of(cluster, group, vault) as values:
        with pytest.raises(NotAvailableError, match="n-worker is not to run"):
            await values.of(COPY, SPEC)


async def test_no_request_gets_more_than_the_spec_of_its_copy_uses(cluster: TrustedCluster) -> None:
    vault = OneKeyVault()
    other = SecretId("shop/other")
    group = sealed(vault, {DB: b"x", SHARED: b"y", other: b"z"})
    placed(group, node=WORKER)
    async with worker_of(cluster, group, vault) as values:
        asked = values._peers.ask(COPY, (DB, other))
        with pytest.raises((ForbiddenError, NotAvailableError), match="does not use the secret shop/other"):
            await asked
