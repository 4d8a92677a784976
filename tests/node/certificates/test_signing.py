"""Certificates over a real mesh: a worker gets them for what the cluster serves and for itself, for nothing else."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from node.certificates.signing import LEAVES_MAX, LeafSigner, Names
from node.mesh.driver import Mesh, MeshAddress
from node.mesh.purpose import Purpose
from node.trust.authority import encode_key, is_signed_by, load_certificate
from node.trust.data_keys import DataKeys
from node.trust.kept import make_keys
from node.trust.leaves import make_leaf_request
from orca.errors import NotAvailableError
from orca.model.ids import NodeId
from orca.model.node import NodeAddresses
from tests.consensus.state.asking import admit
from tests.node.certificates.test_keeper import Shown
from tests.node.mesh.credentials import TrustedCluster
from tests.node.trust.cluster import CLUSTER

pytestmark = pytest.mark.integration
MEMBER, WORKER = NodeId("n-founder"), NodeId("n-worker")
CSR = make_leaf_request(encode_key(ec.generate_private_key(ec.SECP256R1())))


@pytest.fixture
def cluster() -> Iterator[TrustedCluster]:
    made = TrustedCluster()
    yield made
    made.close()


@asynccontextmanager
async def worker_of(cluster: TrustedCluster, shown: Shown) -> AsyncIterator[LeafSigner]:
    """What a worker, which has no data key, has of the member of `shown`."""
    admit(shown.member.state_machine, WORKER, name="box", addresses=NodeAddresses(mesh="10.0.0.5:6881"))
    await shown.keeper.look()
    no_keys = DataKeys(CLUSTER, make_keys(WORKER), lambda: shown.member.state)
    places: dict[NodeId, MeshAddress] = {}
    made: dict[NodeId, LeafSigner] = {}
    async with trio.open_nursery() as nursery:
        for node, keys in ((MEMBER, shown.member.data_keys), (WORKER, no_keys)):
            mesh = Mesh(node, random.Random(1), address_of=places.get, credentials=cluster.credentials(node))
            made[node] = LeafSigner(
                lambda: shown.member.state, mesh, keys, shown.member.clock, members=lambda: [MEMBER]
            )
            handlers = {Purpose.CERTIFICATES: made[node].serve}
            places[node] = await nursery.start(partial(mesh.run, handlers, "127.0.0.1", 0))
        yield made[WORKER]
        nursery.cancel_scope.cancel()


async def test_a_worker_gets_certificates_for_domains_of_services_and_for_its_own_names(
    cluster: TrustedCluster,
) -> None:
    shown = Shown()
    shown.serve("web", "a.example", "*.b.example")
    leaves: list[Names] = [("a.example",), ("*.b.example",), ("localhost", "box", "10.0.0.5")]
    async with worker_of(cluster, shown) as signer:
        certificates = await signer.certify(CSR, leaves)
    record = shown.member.state.ingress_authority
    assert record is not None
    for certificate in certificates:
        assert is_signed_by(load_certificate(certificate), load_certificate(record.certificate))
    names = load_certificate(certificates[1]).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["*.b.example"]


async def test_a_worker_gets_nothing_for_other_names_and_the_rest_all_the_same(cluster: TrustedCluster) -> None:
    shown = Shown()
    shown.serve("web", "a.example", "*.b.example")
    wrong: list[Names] = [
        ("bank.example",),
        ("x.b.example",),
        ("founder",),
        ("8.8.8.8",),
        ("a.example", "bank.example"),
    ]
    async with worker_of(cluster, shown) as signer:
        certificates = await signer.certify(CSR, [*wrong, ("a.example",)])
    assert [bool(one) for one in certificates] == [False] * len(wrong) + [True]


async def test_what_cannot_be_signed_is_said(cluster: TrustedCluster) -> None:
    shown = Shown()
    async with worker_of(cluster, shown) as signer:
        with pytest.raises(NotAvailableError, match="one request may ask for"):
            await signer.certify(CSR, [("localhost",)] * (LEAVES_MAX + 1))
        with pytest.raises(NotAvailableError, match="cannot be read"):
            await signer.certify(b"no request", [("localhost",)])
        shown.member.state.ingress_authority = None
        with pytest.raises(NotAvailableError, match="no CA for served names yet"):
            await signer.certify(CSR, [("localhost",)])
