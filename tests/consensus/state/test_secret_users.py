"""Services that name secrets: none without its secrets, and all get new copies when a value changes."""

from consensus.state.commands import DeleteSecrets, PutDataKey, PutSecrets, SealedEntry
from orca.model.ids import NodeId, ProjectName, SecretId
from orca.model.ingress import IngressSpec, TlsSpec
from orca.model.spec import FileSpec
from tests.consensus.intent import Cluster, make_spec
from tests.consensus.state.asking import admit, done, refused

OWN, SHARED = SecretId("shop/db"), SecretId("/db")
SHOP = ProjectName("shop")
USER = make_spec("web", project=SHOP, env={"URL": "pg://u:${secrets.db}@db"})


def cluster_with(*secrets: SecretId) -> Cluster:
    cluster = Cluster()
    admit(cluster, "n-1")
    done(cluster, PutDataKey, version=1, wrapped={NodeId("n-1"): b"wrapped"})
    if secrets:
        set_secrets(cluster, *secrets)
    return cluster


def set_secrets(cluster: Cluster, *secrets: SecretId) -> list[str]:
    """Which services get new copies."""
    entries = tuple(SealedEntry(secret=one, key_version=1, ciphertext=bytes(40)) for one in secrets)
    return [change.service for change in done(cluster, PutSecrets, entries=entries).changes]


def test_a_service_that_names_a_secret_that_does_not_exist_is_refused_and_told_how_to_set_it() -> None:
    cluster = cluster_with()
    outcome = cluster.put(USER)
    assert outcome.error == "invalid_spec"
    assert "`orca secrets set shop/db`" in outcome.message
    assert not cluster.state.services


def test_a_deploy_with_one_missing_secret_puts_none_of_its_services() -> None:
    cluster = cluster_with()
    assert cluster.put(make_spec("other"), USER).error == "invalid_spec"
    assert not cluster.state.services


def test_the_secret_of_the_whole_cluster_is_meant_where_the_project_has_none() -> None:
    assert not cluster_with(SHARED).put(USER).error


def test_a_certificate_of_the_ingress_is_in_use_but_its_change_replaces_no_copy() -> None:
    cluster = cluster_with()
    tls = IngressSpec(tls=TlsSpec(certificate="crt", key="key"))
    served = make_spec("web", project=SHOP, ingress=tls)
    assert "`orca secrets set shop/crt`" in cluster.put(served).message
    crt, key = SecretId("shop/crt"), SecretId("/key")
    set_secrets(cluster, crt, key)
    assert not cluster.put(served).error
    assert set_secrets(cluster, crt, key) == []
    assert cluster.record("shop/web").current.revision == 1
    for one in (crt, key):
        assert "used by shop/web" in refused(cluster, "conflict", DeleteSecrets, secrets=(one,))


def test_a_changed_secret_replaces_the_copies_of_those_that_use_it_and_of_nobody_else() -> None:
    cluster = cluster_with(OWN)
    by_file = make_spec("worker", project=SHOP, files=(FileSpec(target="/run/db", secret="db"),))
    cluster.put(USER, by_file, make_spec("other", project=SHOP), make_spec("web"))
    before = cluster.record("shop/web")
    assert set_secrets(cluster, OWN) == ["shop/web", "shop/worker"]
    after = cluster.record("shop/web")
    assert after.spec == before.spec
    assert after.current.template != before.current.template
    assert after.current.cause == "secret db"
    assert after.current.revision == before.current.revision + 1
    assert cluster.record("shop/other").current.revision == 1
    assert cluster.record("default/web").current.revision == 1


def test_a_secret_of_the_project_hides_the_one_of_the_cluster() -> None:
    cluster = cluster_with(SHARED)
    cluster.put(USER)
    assert set_secrets(cluster, OWN) == ["shop/web"]
    assert set_secrets(cluster, SHARED) == []


def test_a_stopped_service_stays_stopped_when_its_secret_changes() -> None:
    cluster = cluster_with(OWN)
    cluster.put(USER)
    cluster.stop("shop/web")
    assert set_secrets(cluster, OWN) == []
    assert cluster.record("shop/web").is_stopped


def test_a_deploy_of_the_same_spec_after_a_secret_changed_keeps_the_new_copies() -> None:
    cluster = cluster_with(OWN)
    cluster.put(USER)
    set_secrets(cluster, OWN)
    template = cluster.record("shop/web").current.template
    cluster.put(USER)
    assert cluster.record("shop/web").current.template == template


def test_a_secret_in_use_cannot_be_removed_and_its_users_are_named() -> None:
    cluster = cluster_with(OWN)
    cluster.put(USER)
    assert "used by shop/web" in refused(cluster, "conflict", DeleteSecrets, secrets=(OWN,))
    cluster.remove("shop/web")
    done(cluster, DeleteSecrets, secrets=(OWN,))
    assert not cluster.state.secrets


def test_a_rollback_to_a_revision_whose_secret_is_gone_is_refused() -> None:
    cluster = cluster_with(OWN)
    cluster.put(USER)
    cluster.put(make_spec("web", project=SHOP))
    done(cluster, DeleteSecrets, secrets=(OWN,))
    outcome = cluster.roll_back("shop/web", 1)
    assert outcome.error == "invalid_spec"
    assert cluster.record("shop/web").current.revision == 2
