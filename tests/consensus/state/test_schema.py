"""An older release stops at what it does not know; a newer one waits until all know it."""

from typing import Any, ClassVar

import pytest

from consensus.state.apply import apply
from consensus.state.cluster import ClusterState
from consensus.state.commands import (
    AdmitNode,
    BeginEpoch,
    Change,
    ChangeSettings,
    LabelNode,
    RaiseSchema,
    decode_command,
    encode_command,
)
from consensus.state.commands import base as newest
from consensus.state.schema import check_proposable, lagging_nodes, raisable_schema, schema_of
from orca.errors import NotAvailableError, PeerProtocolError
from orca.model.ids import LogIndex, NodeId, RequestId
from orca.model.units import WallMs
from tests.consensus.intent import Cluster
from tests.consensus.state.asking import admit, done, refused


class PaintNode(Change, frozen=True, kw_only=True, tag="paint_node"):
    """A command of a release to come."""

    since: ClassVar[int] = 2
    fields_since: ClassVar[dict[str, int]] = {"shade": 3}

    node: NodeId
    shade: str = "plain"


def paint(**fields: Any) -> Any:
    return PaintNode(request_id=RequestId("p"), at_ms=WallMs(1), actor="ann", node=NodeId("n-1"), **fields)


@pytest.fixture
def knows_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """This release is the one after the next."""
    monkeypatch.setattr(newest, "SCHEMA", 3)


def test_a_command_needs_the_schema_of_what_it_uses() -> None:
    assert schema_of(paint()) == 2
    assert schema_of(paint(shade="dark")) == 3
    assert schema_of(LabelNode(request_id=RequestId("r"), at_ms=WallMs(1), actor="ann", node=NodeId("n-1"))) == 1


def test_what_is_newer_than_the_schema_in_force_is_not_proposed_and_names_who_lags() -> None:
    cluster = Cluster()
    admit(cluster, "n-1", name="old")
    admit(cluster, "n-2", name="new", schema=3)
    with pytest.raises(NotAvailableError, match=r"schema 2.*update old \(knows 1\)"):
        check_proposable(cluster.state, paint())
    cluster.state.schema = 1
    check_proposable(cluster.state, ChangeSettings(request_id=RequestId("r"), at_ms=WallMs(1), actor="ann"))


def test_what_is_newer_than_the_schema_in_force_is_refused_if_it_comes_nevertheless() -> None:
    cluster = Cluster()
    admit(cluster)
    before = cluster.image()
    outcome = apply(cluster.state, LogIndex(9), paint())
    assert outcome.error == "not_available"
    assert "update n-1 (knows 1)" in outcome.message
    assert cluster.image() == before


@pytest.mark.usefixtures("knows_three")
def test_the_schema_is_raised_when_every_node_knows_it_and_not_before() -> None:
    cluster = Cluster()
    assert raisable_schema(cluster.state) is None, "nobody is known yet"
    refused(cluster, "conflict", RaiseSchema, to=2)
    admit(cluster, "n-1", schema=3)
    admit(cluster, "n-2", schema=1)
    assert raisable_schema(cluster.state) is None
    assert lagging_nodes(cluster.state, 2) == ["n-2"]
    assert "update n-2 (knows 1)" in refused(cluster, "conflict", RaiseSchema, to=2)
    admit(cluster, "n-2", schema=2)
    assert raisable_schema(cluster.state) == 2, "the newest that all know, not the newest of all"
    done(cluster, RaiseSchema, to=2)
    assert cluster.state.schema == 2
    assert raisable_schema(cluster.state) is None
    assert "in force already" in refused(cluster, "conflict", RaiseSchema, to=2)
    check_proposable(cluster.state, paint())


@pytest.mark.usefixtures("knows_three")
def test_a_release_that_goes_back_behind_the_schema_in_force_is_told_so() -> None:
    cluster = Cluster()
    admit(cluster, schema=3)
    done(cluster, RaiseSchema, to=3)
    older = AdmitNode(node=NodeId("n-1"), name="n-1", schema=2, at_ms=WallMs(1))
    outcome = cluster.apply(older)
    assert outcome.error == "conflict"
    assert "install a newer release" in outcome.message


def test_an_older_release_stops_at_the_raise_itself() -> None:
    payload = encode_command(RaiseSchema(request_id=RequestId("r"), at_ms=WallMs(1), actor="orca", to=2))
    with pytest.raises(PeerProtocolError, match=r"schema 2.*knows 1.*update this node"):
        decode_command(payload)


@pytest.mark.usefixtures("knows_three")
def test_a_newer_release_reads_the_raise() -> None:
    payload = encode_command(RaiseSchema(request_id=RequestId("r"), at_ms=WallMs(1), actor="orca", to=3))
    assert isinstance(decode_command(payload), RaiseSchema)


def test_a_field_at_its_default_is_not_in_the_bytes_so_that_an_older_release_reads_on() -> None:
    admit_node = AdmitNode(node=NodeId("n-1"), name="one", at_ms=WallMs(1))
    assert b"schema" not in encode_command(admit_node)
    assert b"release" not in encode_command(admit_node)


def test_settings_that_are_not_given_stay() -> None:
    cluster = Cluster()
    done(cluster, ChangeSettings, name="shop", voters=3)
    done(cluster, ChangeSettings, gossip_key_version=2)
    settings = cluster.state.settings
    assert (settings.name, settings.voters, settings.gossip_key_version) == ("shop", 3, 2)
    command = ChangeSettings(request_id=RequestId("r"), at_ms=WallMs(1), actor="ann", voters=None)
    assert not cluster.apply(decode_command(encode_command(command))).error
    assert cluster.state.settings.voters is None
    for voters in (0, 2, 9):
        refused(cluster, "invalid_request", ChangeSettings, voters=voters)
    refused(cluster, "invalid_request", ChangeSettings, name="")
    for version in (1, 2):
        refused(cluster, "conflict", ChangeSettings, gossip_key_version=version)  # a version is one key's
    refused(cluster, "conflict", ChangeSettings, gossip_key_removals=1)  # nobody was removed


def test_an_epoch_only_grows() -> None:
    cluster = Cluster()
    done(cluster, BeginEpoch, epoch=4)
    for epoch in (4, 3, 5_000):
        refused(cluster, "conflict", BeginEpoch, epoch=epoch)
    assert cluster.state.epoch == 4


def test_every_release_begins_with_the_same_state() -> None:
    """A replica that reads the log from its first entry must begin where all others began."""
    assert ClusterState().schema == 1
