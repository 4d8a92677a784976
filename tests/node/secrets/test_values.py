"""What a copy is given: all values that its spec names, opened here or by a member, or none and why."""

from collections.abc import Mapping

import msgspec
import pytest

from consensus.state.commands import PutSecrets, SealedEntry
from node.runtime.base import Workload
from node.secrets import SecretValues
from node.secrets.sharing import SECRETS_MAX, SecretAnswer, SecretRequest, check_right
from orca.errors import ForbiddenError, NotAvailableError, StoreCorruptError
from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import AllocationId, ClusterId, NodeId, ProjectName, SecretId, ServiceId, SpecRevision
from orca.model.ingress import IngressSpec, TlsSpec
from orca.model.spec import FileSpec, ServiceSpec
from orca.model.units import WallMs
from tests.consensus.intent import make_spec
from tests.consensus.state.asking import done
from tests.node.secrets.parts import HERE, Group, OneKeyVault

COPY = AllocationId("aaaaaaaaaaaa")
DB, SHARED = SecretId("shop/db"), SecretId("/key")
SPEC = make_spec(
    "web",
    project=ProjectName("shop"),
    env={"URL": "pg://u:${secrets.db}@h/${secrets.db}", "PLAIN": "$x"},
    files=(FileSpec(target="/k", secret="key"),),
)


class Nobody:
    """Peers that give nothing, or `values`."""

    def __init__(self, values: Mapping[SecretId, bytes] | None = None) -> None:
        self.values = values
        self.asked: list[tuple[SecretId, ...]] = []

    async def ask(self, allocation: AllocationId, secrets: tuple[SecretId, ...]) -> Mapping[SecretId, bytes]:
        self.asked.append(secrets)
        if self.values is None:
            raise NotAvailableError("nobody lives")
        return self.values

    async def ask_for_ingress(self, service: ServiceId, secrets: tuple[SecretId, ...]) -> Mapping[SecretId, bytes]:
        return await self.ask(AllocationId(service), secrets)


def sealed(vault: OneKeyVault, values: Mapping[SecretId, bytes]) -> Group:
    group = Group()
    entries = []
    for secret, value in values.items():
        version, ciphertext = vault.seal(secret, value)
        entries.append(SealedEntry(secret=secret, key_version=version, ciphertext=ciphertext))
    done(group.cluster, PutSecrets, entries=tuple(entries))
    return group


def values_of(group: Group, vault: OneKeyVault, peers: Nobody | None = None) -> SecretValues:
    return SecretValues(lambda: group.state, vault, peers or Nobody())


def workload(spec: ServiceSpec, secrets: dict[str, bytes]) -> Workload:
    return Workload(
        allocation=COPY,
        service=spec.id,
        revision=SpecRevision(1),
        template="t",
        slot=0,
        cluster=ClusterId("c"),
        node=HERE,
        spec=spec,
        secrets=secrets,
    )


async def test_a_copy_gets_its_values_by_the_names_of_its_spec_and_what_they_contain_is_not_read_again() -> None:
    vault = OneKeyVault()
    group = sealed(vault, {DB: b"p${secrets.key}", SHARED: b"\x00\xff"})
    secrets = await values_of(group, vault).of(COPY, SPEC)
    assert secrets == {"db": b"p${secrets.key}", "key": b"\x00\xff"}
    made = workload(SPEC, secrets)
    assert made.environment["URL"] == "pg://u:p${secrets.key}@h/p${secrets.key}"
    assert made.environment["PLAIN"] == "$x"
    assert "secrets.key" not in repr(made)
    assert made.spec.env["URL"] == SPEC.env["URL"]


async def test_a_spec_without_secrets_asks_nobody_and_opens_nothing() -> None:
    peers = Nobody()
    assert await values_of(Group(), OneKeyVault(is_shut=True), peers).of(COPY, make_spec()) == {}
    assert not peers.asked


async def test_a_secret_that_does_not_exist_is_named_with_the_command_that_sets_it() -> None:
    vault = OneKeyVault()
    with pytest.raises(NotAvailableError, match="orca secrets set shop/key"):
        await values_of(sealed(vault, {DB: b"x"}), vault).of(COPY, SPEC)


async def test_a_node_that_has_no_key_asks_its_peers_and_without_them_says_both_reasons() -> None:
    vault = OneKeyVault()
    group = sealed(vault, {DB: b"x", SHARED: b"y"})
    vault.is_shut = True
    peers = Nobody({DB: b"x", SHARED: b"y"})
    assert await values_of(group, vault, peers).of(COPY, SPEC) == {"db": b"x", "key": b"y"}
    assert peers.asked == [(DB, SHARED)]
    with pytest.raises(NotAvailableError, match="has no data key; and from the others: nobody lives"):
        await values_of(group, vault).of(COPY, SPEC)


@pytest.mark.parametrize("value", [b"\xff", b"a\0b"])
async def test_what_is_no_text_cannot_stand_in_the_environment(value: bytes) -> None:
    vault = OneKeyVault()
    with pytest.raises(NotAvailableError, match="shop/db is no text and cannot stand in the variable URL"):
        await values_of(sealed(vault, {DB: value, SHARED: b"y"}), vault).of(COPY, SPEC)


async def test_the_ciphertext_of_one_secret_does_not_open_as_another() -> None:
    vault = OneKeyVault()
    group = sealed(vault, {DB: b"x", SHARED: b"y"})
    first, second = (group.state.secrets[name] for name in (DB, SHARED))
    group.state.secrets[DB] = type(first)(
        id=DB,
        version=first.version,
        key_version=1,
        ciphertext=second.ciphertext,
        created_at_ms=WallMs(1),
        updated_at_ms=WallMs(1),
        updated_by="mallory",
    )
    with pytest.raises(StoreCorruptError):
        await values_of(group, vault).of(COPY, SPEC)


def placed(group: Group, desired: DesiredStatus = DesiredStatus.RUNNING, node: NodeId = HERE) -> None:
    group.cluster.put(SPEC)
    group.state.allocations[COPY] = Allocation(
        id=COPY,
        service=ServiceId("shop/web"),
        revision=SpecRevision(1),
        template=group.cluster.record("shop/web").current.template,
        slot=0,
        node=node,
        desired=desired,
        created_at_ms=WallMs(1),
    )


def test_a_peer_is_given_what_its_own_copies_use_and_nothing_else() -> None:
    group = sealed(OneKeyVault(), {DB: b"x", SHARED: b"y", SecretId("shop/other"): b"z"})
    right = SecretRequest(allocation=COPY, secrets=(DB, SHARED))
    with pytest.raises(ForbiddenError, match="is not to run"):
        check_right(group.state, HERE, right)
    placed(group)
    check_right(group.state, HERE, right)
    with pytest.raises(ForbiddenError, match="n-2 is not to run"):
        check_right(group.state, NodeId("n-2"), right)
    with pytest.raises(ForbiddenError, match="does not use the secret shop/other"):
        check_right(group.state, HERE, SecretRequest(allocation=COPY, secrets=(DB, SecretId("shop/other"))))
    placed(group, DesiredStatus.STOPPED)
    with pytest.raises(ForbiddenError, match="is not to run"):
        check_right(group.state, HERE, right)


def test_every_node_is_given_what_the_ingress_of_a_service_uses_and_nothing_else() -> None:
    crt, key, foreign = SecretId("shop/crt"), SecretId("shop/key"), SecretId("other/crt")
    group = sealed(OneKeyVault(), {DB: b"x", SHARED: b"y", crt: b"c", key: b"k", foreign: b"f"})
    placed(group)
    web = ServiceId("shop/web")
    with pytest.raises(ForbiddenError, match="shop/web does not use the secret shop/crt"):
        check_right(group.state, NodeId("n-2"), SecretRequest(service=web, secrets=(crt,)))
    tls = IngressSpec(tls=TlsSpec(certificate="crt", key="key"))
    group.cluster.put(msgspec.structs.replace(SPEC, ingress=tls), make_spec("b", project=ProjectName("other")))
    check_right(group.state, NodeId("n-2"), SecretRequest(service=web, secrets=(crt, key)))
    for wrong in (
        SecretRequest(service=web, secrets=(crt, DB)),
        SecretRequest(service=web, secrets=(foreign,)),
        SecretRequest(service=ServiceId("other/b"), allocation=COPY, secrets=(crt,)),
        SecretRequest(service=ServiceId("shop/none"), secrets=(crt,)),
        SecretRequest(allocation=COPY, secrets=(crt,)),
    ):
        with pytest.raises(ForbiddenError):
            check_right(group.state, NodeId("n-2"), wrong)


def test_an_answer_never_shows_its_values() -> None:
    assert "hunter2" not in repr(SecretAnswer(values={DB: b"hunter2"}))
    assert SECRETS_MAX >= 1_000
