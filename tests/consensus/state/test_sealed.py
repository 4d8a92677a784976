"""Secrets come sealed, stay sealed, and can be opened by those nodes that are let."""

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consensus.state.commands import (
    DeleteSecrets,
    DropDataKey,
    PutDataKey,
    PutSecrets,
    RemoveNode,
    ResealSecrets,
    SealedEntry,
    WrapDataKey,
    encode_command,
)
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from orca.model.ids import NodeId, RequestId, SecretId, StateRevision
from orca.model.units import WallMs
from tests.consensus.intent import Cluster
from tests.consensus.state.asking import admit, done, refused

DB = SecretId("shop/db_url")
ONE, TWO = NodeId("n-1"), NodeId("n-2")
SEALED = bytes(40)


def two_nodes() -> Cluster:
    cluster = Cluster()
    admit(cluster, ONE)
    admit(cluster, TWO)
    done(cluster, PutDataKey, version=1, wrapped={ONE: b"wrapped for one"})
    return cluster


def entry(secret: SecretId = DB, key_version: int = 1, **fields: Any) -> SealedEntry:
    return SealedEntry(secret=secret, key_version=key_version, **{"ciphertext": SEALED, **fields})


def version(cluster: Cluster, secret: SecretId = DB) -> StateRevision:
    return cluster.state.secrets[secret].version


def test_what_is_sealed_is_found_nowhere_and_opens_again() -> None:
    cluster = two_nodes()
    plaintext, key, nonce = b"postgres://u:hunter2@db", AESGCM(AESGCM.generate_key(256)), os.urandom(12)
    ciphertext = nonce + key.encrypt(nonce, plaintext, DB.encode())
    put = PutSecrets(
        request_id=RequestId("x"), at_ms=WallMs(1), actor="ann", entries=(entry(ciphertext=ciphertext),)
    )  # fmt: skip
    assert not cluster.apply(put).error
    restored = decode_snapshot(encode_snapshot(cluster.state))
    sealed = restored.secrets[DB].ciphertext
    assert key.decrypt(sealed[:12], sealed[12:], DB.encode()) == plaintext
    everything = [encode_command(put), cluster.image(), repr(cluster.state).encode(), repr(put).encode()]
    assert not [where for where in everything if b"hunter2" in where]


def test_a_secret_gets_a_version_that_was_never_there_also_after_it_was_deleted() -> None:
    cluster = two_nodes()
    versions = []
    for _ in range(2):
        done(cluster, PutSecrets, entries=(entry(),))
        versions.append(version(cluster))
        done(cluster, PutSecrets, entries=(entry(),))
        versions.append(version(cluster))
        assert done(cluster, DeleteSecrets, secrets=(DB, DB)).secrets == (DB,)
        assert not cluster.state.secrets
    assert versions == sorted(set(versions))


def test_secrets_are_set_all_or_none_and_only_over_what_was_seen() -> None:
    cluster = two_nodes()
    other = SecretId("/cluster_wide")
    done(cluster, PutSecrets, entries=(entry(expected=StateRevision(0)), entry(other)))
    stale = (entry(other), entry(expected=StateRevision(0)))
    assert "expected at 0" in refused(cluster, "conflict", PutSecrets, entries=stale)
    done(cluster, PutSecrets, entries=(entry(expected=version(cluster)),))


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ((), "invalid_request"),
        ((entry(), entry()), "invalid_request"),
        ((entry(SecretId("no_project")),), "invalid_request"),
        ((entry(SecretId("shop/")),), "invalid_request"),
        ((entry(SecretId("x" * 300 + "/a")),), "invalid_request"),
        ((entry(key_version=2),), "not_found"),
        ((entry(ciphertext=b"hunter2"),), "invalid_request"),
        ((entry(ciphertext=bytes(300_000)),), "invalid_request"),
    ],
)
def test_what_cannot_be_a_sealed_secret_is_refused(entries: tuple[SealedEntry, ...], code: str) -> None:
    refused(two_nodes(), code, PutSecrets, entries=entries)


def test_a_rotation_keeps_versions_and_never_brings_an_old_value_back() -> None:
    cluster = two_nodes()
    done(cluster, PutSecrets, entries=(entry(),))
    seen = version(cluster)
    done(cluster, PutDataKey, version=2, wrapped={ONE: b"2-1", TWO: b"2-2"})
    assert "seals 1 secrets" in refused(cluster, "conflict", DropDataKey, version=1)
    done(cluster, ResealSecrets, entries=(entry(key_version=2, expected=seen),))
    assert (version(cluster), cluster.state.secrets[DB].key_version) == (seen, 2)
    for late in (entry(key_version=1, expected=seen), entry(key_version=2), entry(SecretId("a/b"), key_version=2)):
        refused(cluster, "conflict", ResealSecrets, entries=(late,))
    done(cluster, PutSecrets, entries=(entry(key_version=2),))
    refused(cluster, "conflict", ResealSecrets, entries=(entry(key_version=2, expected=seen),))
    done(cluster, DropDataKey, version=1)
    assert "newest" in refused(two_nodes(), "conflict", DropDataKey, version=1)
    refused(cluster, "not_found", DropDataKey, version=1)


def test_a_data_key_is_for_nodes_of_the_cluster_and_always_for_one_of_them() -> None:
    cluster = two_nodes()
    refused(cluster, "conflict", PutDataKey, version=1, wrapped={ONE: b"x"})
    refused(cluster, "invalid_request", PutDataKey, version=2, wrapped={})
    refused(cluster, "invalid_request", PutDataKey, version=2, wrapped={ONE: b""})
    refused(cluster, "not_found", PutDataKey, version=2, wrapped={NodeId("n-9"): b"x"})
    refused(cluster, "not_found", WrapDataKey, version=9, wrapped={TWO: b"x"})
    assert "nobody" in refused(cluster, "conflict", WrapDataKey, version=1, unwrap=(ONE,))
    done(cluster, WrapDataKey, version=1, wrapped={TWO: b"x"}, unwrap=(ONE,))
    assert cluster.state.data_keys[1].wrapped == {TWO: b"x"}


def exposed(cluster: Cluster) -> list[int]:
    return [version for version, key in cluster.state.data_keys.items() if key.is_exposed]


def test_a_node_that_is_removed_can_open_nothing_more_and_the_last_that_can_stays() -> None:
    cluster = two_nodes()
    assert "only node that can open" in refused(cluster, "conflict", RemoveNode, node=ONE)
    done(cluster, WrapDataKey, version=1, wrapped={TWO: b"x"})
    assert exposed(cluster) == []
    done(cluster, RemoveNode, node=ONE)
    assert list(cluster.state.data_keys[1].wrapped) == [TWO]
    assert exposed(cluster) == [1], "who was removed knew it"
    done(cluster, PutDataKey, version=2, wrapped={TWO: b"y"})
    assert exposed(cluster) == [1]
    assert decode_snapshot(encode_snapshot(cluster.state)).data_keys[1].is_exposed


def test_there_is_an_end_to_how_many_secrets_and_keys_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.state.applying.sealed.SECRETS_MAX", 3)
    cluster = two_nodes()
    done(cluster, PutSecrets, entries=tuple(entry(SecretId(f"a/{one}")) for one in range(3)))
    done(cluster, PutSecrets, entries=tuple(entry(SecretId(f"a/{one}")) for one in range(3)))
    refused(cluster, "conflict", PutSecrets, entries=(entry(SecretId("a/0")), entry(SecretId("a/3"))))
    for number in range(2, 17):
        done(cluster, PutDataKey, version=number, wrapped={ONE: b"x"})
    refused(cluster, "conflict", PutDataKey, version=17, wrapped={ONE: b"x"})
