"""What a node keeps of its trust: made once, all or nothing, and taken up where it was left."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from node.membership.kept import KeptGossip
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.identity import read_identity
from node.store.views import Database
from node.trust.entering import _keep
from node.trust.kept import KeptTrust
from node.trust.messages import JoinAnswer, PeerAddress
from node.trust.parts import StartedTrust
from orca.config import GossipSection, NodeConfig
from orca.errors import ForbiddenError, StoreCorruptError
from orca.model.ids import ClusterId, NodeId
from tests.consensus.intent import CountingIds
from tests.node.trust.cluster import SetClock

CONFIG = NodeConfig(gossip=GossipSection(host="127.0.0.1"))


@contextmanager
def store(path: Path) -> Iterator[Environment]:
    with DataDirectory.open(path / "data") as directory, Environment.open(directory) as environment:
        yield environment


def start(environment: Environment) -> StartedTrust:
    return StartedTrust(CONFIG, environment, SetClock(), CountingIds(), "one")


def test_a_founder_makes_everything_once(tmp_path: Path) -> None:
    with store(tmp_path) as environment:
        first = start(environment)
        keys, founding = KeptGossip(environment).keys(), first.kept.founding()
    with store(tmp_path) as environment:
        again = start(environment)
        assert again.own == first.own
        assert again.keys == first.keys
        assert again.identity.cluster == first.identity.cluster
        assert again.keys.node == again.identity.node
        assert KeptGossip(environment).keys() == keys
        assert len(keys) == 1
        assert again.kept.founding() == founding


async def test_what_a_founder_made_is_forgotten_once_the_state_has_it(tmp_path: Path) -> None:
    with store(tmp_path) as environment:
        kept = start(environment).kept
        founding = kept.founding()
        assert founding is not None
        await kept.forget_founding()
        assert kept.founding() is None
        assert start(environment).kept.founding() is None, "it is not founded twice"


def answer(cluster: str = "c-1") -> JoinAnswer:
    return JoinAnswer(
        cluster=ClusterId(cluster),
        certificate=b"certificate",
        authorities=(b"ca",),
        gossip_keys=(b"g" * 32,),
        gossip_key_version=3,
        peers=(PeerAddress(node=NodeId("n-9"), mesh="10.0.0.9:6881", gossip="10.0.0.9:7946"),),
    )


def test_a_join_keeps_identity_certificate_keys_and_peers_together(tmp_path: Path) -> None:
    with store(tmp_path) as environment:
        kept = KeptTrust(environment)
        keys = kept.start_keys(CountingIds())
        _keep(environment, kept, keys.node, answer())
    with store(tmp_path) as environment:
        started = start(environment)
        assert (started.identity.node, started.identity.cluster) == (keys.node, "c-1")
        assert not started.identity.is_founder
        assert started.own.gossip_key_version == 3
        assert started.seeds == ("10.0.0.9:7946",)
        assert KeptGossip(environment).keys() == (b"g" * 32,)


def test_keys_made_for_a_join_that_was_cut_off_serve_the_next_try(tmp_path: Path) -> None:
    with store(tmp_path) as environment:
        first = KeptTrust(environment).start_keys(CountingIds())
        assert read_identity(environment) is None
    with store(tmp_path) as environment:
        assert KeptTrust(environment).start_keys(CountingIds()) == first


async def test_a_node_that_has_left_does_not_start_and_says_how_it_comes_back(tmp_path: Path) -> None:
    with store(tmp_path) as environment:
        started = start(environment)
        await started.kept.keep_own_soon(msgspec.structs.replace(started.own, has_left=True))
        with pytest.raises(ForbiddenError, match="has left it") as caught:
            start(environment)
        assert "orca token create" in caught.value.hint


def test_a_damaged_record_is_not_taken_for_none(tmp_path: Path) -> None:
    with store(tmp_path) as environment:
        start(environment)
        environment.write_blocking(lambda view: view.put(Database.LOCAL, b"trust/keys", b"damaged"))
        with pytest.raises(StoreCorruptError, match="damaged"):
            start(environment)


def test_no_description_shows_a_key(tmp_path: Path) -> None:
    with store(tmp_path) as environment:
        started = start(environment)
        shown = repr(started.keys) + repr(started.kept.founding())
        assert "key=" not in shown
