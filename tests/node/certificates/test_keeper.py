"""What a member's ingress shows: made without asking anybody, renewed in time, and gone with its domain."""

from typing import Any, cast

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from consensus.driver import ReplicaDriver
from consensus.state.commands import PutIngressAuthority
from node.bell import Bell
from node.certificates.brought import BroughtCertificates
from node.certificates.keeper import CertificateKeeper
from node.certificates.signing import LeafSigner
from node.certificates.wanted import LOOPBACK, own_names, served_domains
from node.mesh.driver import Mesh
from node.proxy.certificates import CertificateTable
from node.secrets.rotation import KeyRotation
from node.trust.authority import DAY_MS, encode_key, is_signed_by, load_certificate
from node.trust.leaves import make_ingress_authority
from orca.errors import NotAvailableError
from orca.model.event import EventKind, Severity
from orca.model.ids import NodeId, RequestId, SecretId, ServiceId
from orca.model.node import NodeAddresses
from orca.model.spec import RouteSpec
from orca.model.trust import Author
from orca.model.units import WallMs
from tests.consensus.intent import CountingIds, make_spec
from tests.consensus.state.asking import admit
from tests.node.trust.cluster import NOW_MS, Member


class Shown:
    """The keeper of a member, and the table that it showed last."""

    def __init__(self) -> None:
        self.member = Member()
        self.tables: list[CertificateTable] = []
        self.ids = CountingIds()
        self.secrets: dict[SecretId, bytes] = {}
        self.told: list[tuple[EventKind, str, Severity]] = []
        self.replica = cast("ReplicaDriver", self.member.replica)
        self.signer = LeafSigner(
            lambda: self.member.state,
            cast("Mesh", None),
            self.member.data_keys,
            self.member.clock,
            members=list,
        )
        self.brought = BroughtCertificates(self.read, self.member.clock.wall, self.tell)
        self.keeper = CertificateKeeper(
            self.replica,
            self.member.data_keys,
            self.signer,
            self.brought,
            self.member.clock,
            self.ids,
            show=self.tables.append,
            decided=Bell(),
        )

    async def read(self, service: ServiceId, secrets: tuple[SecretId, ...]) -> tuple[bytes, ...]:
        assert service
        return tuple(self.secrets[one] for one in secrets)

    def tell(self, kind: EventKind, message: str, severity: Severity = Severity.INFO) -> None:
        self.told.append((kind, message, severity))

    def serve(self, name: str, *domains: str) -> None:
        routes = tuple(RouteSpec(domain=domain) for domain in domains)
        outcome = self.member.state_machine.put(make_spec(name, routes=routes))
        assert not outcome.error, outcome.message

    def pass_until(self, wall_ms: int) -> None:
        """Let the time be that, and enough have gone by for a look."""
        self.member.clock.wall_ms = wall_ms
        self.member.clock.now_s += 3600

    def leaf(self, name: str | None) -> x509.Certificate | None:
        """What a client that asks for `name` is shown."""
        chain = self.tables[-1].find(name)
        if chain is None:
            return None
        assert chain.pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
        return x509.load_pem_x509_certificate(chain.pem[chain.pem.index(b"-----BEGIN CERTIFICATE") :])

    def serial(self, name: str) -> int:
        found = self.leaf(name)
        assert found is not None
        return found.serial_number


async def test_the_leader_makes_the_ca_once_and_every_domain_gets_a_leaf_of_it() -> None:
    shown = Shown()
    shown.serve("web", "a.example", "*.b.example")
    await shown.keeper.look()
    record = shown.member.state.ingress_authority
    assert record is not None
    for name in ("a.example", "x.b.example", "localhost", None):
        leaf = shown.leaf(name)
        assert leaf is not None
        assert is_signed_by(leaf, load_certificate(record.certificate))
        assert not is_signed_by(leaf, load_certificate(shown.member.authority.certificate)), "not by the nodes' CA"
    assert shown.leaf("c.example") is None
    await shown.keeper.look()
    assert sum(isinstance(one, PutIngressAuthority) for one in shown.member.replica.proposed) == 1


async def test_a_node_that_does_not_lead_waits_for_the_ca() -> None:
    shown = Shown()
    shown.member.replica.is_leader = False
    shown.serve("web", "a.example")
    await shown.keeper.look()
    assert shown.tables == []
    assert shown.member.state.ingress_authority is None


async def test_a_new_domain_is_shown_at_the_next_look_and_a_removed_one_no_more() -> None:
    shown = Shown()
    shown.serve("web", "a.example")
    await shown.keeper.look()
    before = shown.serial("a.example")
    shown.serve("other", "b.example")
    await shown.keeper.look()
    assert shown.leaf("b.example") is not None
    assert shown.serial("a.example") == before, "what is good stays"
    shown.member.state_machine.remove("default/other")
    await shown.keeper.look()
    assert shown.leaf("b.example") is None
    assert shown.leaf("a.example") is not None


async def test_leaves_are_renewed_at_two_thirds_of_their_life_and_not_all_at_once() -> None:
    shown = Shown()
    domains = [f"d{number}.example" for number in range(150)]
    shown.serve("web", *domains)
    await shown.keeper.look()
    serials = {name: shown.serial(name) for name in domains}
    shown.pass_until(NOW_MS + 4 * DAY_MS)
    await shown.keeper.look()
    assert {name: shown.serial(name) for name in domains} == serials
    shown.pass_until(NOW_MS + round(7 * DAY_MS * (2 / 3 - 0.03)))
    await shown.keeper.look()
    renewed = sum(shown.serial(name) != serials[name] for name in domains)
    assert 0 < renewed < len(domains)
    shown.pass_until(NOW_MS + 5 * DAY_MS)
    await shown.keeper.look()
    assert not any(shown.serial(name) == serials[name] for name in domains)


async def test_when_nothing_can_be_signed_what_is_held_is_shown_on_and_the_next_try_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = Shown()
    shown.serve("web", "a.example")
    await shown.keeper.look()
    shown.serve("other", "b.example")

    async def refuse(*_: Any) -> tuple[bytes, ...]:
        raise NotAvailableError("no member is known to live")

    monkeypatch.setattr(shown.signer, "certify", refuse)
    first_s = await shown.keeper.look()
    assert 0 < first_s <= 1
    assert shown.leaf("a.example") is not None
    assert await shown.keeper.look() == pytest.approx(first_s), "it does not ask before its time"


async def test_the_ca_is_sealed_anew_with_the_data_key_and_signs_on() -> None:
    shown = Shown()
    await shown.keeper.look()
    before = shown.member.data_keys.ingress_signing()
    rotation = KeyRotation(shown.replica, shown.member.data_keys, shown.member.clock, shown.ids)
    assert (await rotation.run(Author(actor="ann")))[0] == 2
    assert list(shown.member.state.data_keys) == [2]
    assert shown.member.data_keys.ingress_signing() == before


async def test_when_the_ca_is_replaced_every_leaf_is_made_anew_at_once() -> None:
    shown = Shown()
    shown.serve("web", "a.example", "b.example")
    await shown.keeper.look()
    older = shown.member.data_keys.ingress_signing()
    key = encode_key(ec.generate_private_key(ec.SECP256R1()))
    newer = make_ingress_authority(older.cluster, key, serial=2, at_ms=WallMs(NOW_MS))
    command = shown.member.data_keys.put_ingress_authority(
        newer, at_ms=WallMs(NOW_MS), actor="ann", request_id=RequestId("next")
    )
    outcome = await shown.replica.propose(msgspec.structs.replace(command, replaces=older.fingerprint))
    assert not outcome.error, outcome.message
    await shown.keeper.look()
    for name in ("a.example", "b.example", None):
        leaf = shown.leaf(name)
        assert leaf is not None
        assert is_signed_by(leaf, load_certificate(newer.certificate))


async def test_a_node_may_have_only_names_certified_that_nobody_else_has() -> None:
    shown = Shown()
    nodes = shown.member.state.nodes
    for number, (name, mesh, own) in enumerate(
        (
            ("box", "10.0.0.5:6881", ("box", "10.0.0.5")),
            ("Box2", "[fd00::1]:6881", ("box2", "fd00::1")),
            ("bank.example", "8.8.8.8:6881", ()),
            ("n b", "", ()),
        )
    ):
        node = NodeId(f"n-{number}")
        admit(shown.member.state_machine, node, name=name, addresses=NodeAddresses(mesh=mesh))
        assert own_names(nodes[node]) == (*LOOPBACK, *own), name


def test_every_domain_counts_once_however_it_is_written() -> None:
    shown = Shown()
    shown.serve("web", "A.Example", "b.example.")
    shown.serve("more", "a.example", "*.b.example")
    assert sorted(served_domains(shown.member.state)) == ["*.b.example", "a.example", "b.example"]
