"""Channels and what they were told: claimed by one node at a time, settled, and gone with what is over."""

from typing import Any

import pytest

from consensus.state.applying.notices import CLAIM_MS
from consensus.state.cluster import Outcome
from consensus.state.commands import (
    AdmitNode,
    ClaimNotices,
    DeleteSecrets,
    NoticeEntry,
    PutChannel,
    PutDataKey,
    PutSecrets,
    RemoveChannel,
    SealedEntry,
    SettleNotices,
)
from consensus.state.records import NoticeRecord, notice_key
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from orca.model.event import Severity
from orca.model.ids import ChannelName, NodeId, SecretId
from orca.model.units import WallMs
from tests.consensus.intent import Cluster

OPS, N1, N2 = ChannelName("ops"), NodeId("n-1"), NodeId("n-2")
URL = SecretId("/notify.ops")
LOOP = "crash-loop:default/web"


class Told(Cluster):
    """A cluster of two nodes with a channel and its address."""

    def __init__(self) -> None:
        super().__init__()
        for node in (N1, N2):
            self.apply(AdmitNode(node=node, name=node, at_ms=WallMs(1)))
        self.apply(PutDataKey(version=1, wrapped={N1: b"w"}, **self._stamp()))
        sealed = SealedEntry(secret=URL, key_version=1, ciphertext=b"x" * 40)
        assert not self.apply(PutSecrets(entries=(sealed,), **self._stamp())).error
        assert not self.put_channel().error

    def put_channel(self, name: str = "ops", **fields: Any) -> Outcome:
        return self.apply(PutChannel(channel=ChannelName(name), **{"secret": URL, **self._stamp(), **fields}))

    def claim(self, node: NodeId = N1, *, alert: str = LOOP, is_firing: bool = True) -> str:
        entry = NoticeEntry(alert=alert, is_firing=is_firing, severity=Severity.ERROR, since_ms=WallMs(5))
        command = ClaimNotices(channel=OPS, node=node, entries=(entry,), at_ms=WallMs(self.at_ms))
        return self.apply(command).error

    def settle(self, node: NodeId = N1, alert: str = LOOP) -> None:
        self.apply(SettleNotices(channel=OPS, node=node, alerts=(alert,), at_ms=WallMs(self.at_ms)))

    def notice(self) -> NoticeRecord | None:
        return self.state.notices.get(notice_key(OPS, LOOP))


def test_what_one_node_is_about_to_tell_no_other_tells_until_that_is_old() -> None:
    cluster = Told()
    assert not cluster.claim(N1)
    assert cluster.claim(N2) == "conflict"
    assert not cluster.claim(N1), "its own it may repeat"
    cluster.at_ms += CLAIM_MS
    assert not cluster.claim(N2)
    cluster.settle(N1)
    assert (lost := cluster.notice()) is not None
    assert lost.told is None, "it lost its claim"
    cluster.settle(N2)
    assert (settled := cluster.notice()) is not None
    assert settled.told is not None
    assert settled.claim is None


def test_what_was_told_to_be_over_leaves_nothing_behind() -> None:
    cluster = Told()
    cluster.claim()
    cluster.settle()
    revision = cluster.state.revision
    cluster.claim(is_firing=False)
    assert (waiting := cluster.notice()) is not None
    assert waiting.told is not None, "until it is settled it counts as told that it fires"
    cluster.settle()
    assert cluster.notice() is None
    assert cluster.state.revision == revision, "nobody has to act on that"


def test_a_channel_that_is_removed_forgets_what_it_was_told() -> None:
    cluster = Told()
    cluster.claim()
    assert decode_snapshot(encode_snapshot(cluster.state)).notices == cluster.state.notices
    assert not cluster.apply(RemoveChannel(channel=OPS, **cluster._stamp())).error
    assert not cluster.state.notices
    assert cluster.claim() == "not_found"
    assert [one.subject for one in cluster.state.audit.values()][-1] == "channel ops"


def test_an_address_stays_as_long_as_a_channel_needs_it() -> None:
    cluster = Told()
    kept = cluster.apply(DeleteSecrets(secrets=(URL,), **cluster._stamp()))
    assert kept.error == "conflict"
    assert "the channel ops" in kept.message
    cluster.apply(RemoveChannel(channel=OPS, **cluster._stamp()))
    assert not cluster.apply(DeleteSecrets(secrets=(URL,), **cluster._stamp())).error


def test_a_channel_changes_and_keeps_who_made_it_and_what_it_was_told() -> None:
    cluster = Told()
    cluster.claim()
    assert not cluster.put_channel(severity=Severity.ERROR, actor="bob").error
    assert cluster.state.channels[OPS].created_by != "bob"
    assert cluster.state.channels[OPS].severity is Severity.ERROR
    assert cluster.notice() is not None


@pytest.mark.parametrize(
    ("name", "fields", "error"),
    [
        ("a b", {}, "invalid_request"),
        ("", {}, "invalid_request"),
        ("x" * 65, {}, "invalid_request"),
        ("web", {"secret": SecretId("/nothing")}, "not_found"),
    ],
)
def test_a_channel_that_makes_no_sense_is_refused(name: str, fields: dict[str, Any], error: str) -> None:
    assert Told().put_channel(name, **fields).error == error


def test_who_is_no_node_tells_nobody() -> None:
    assert Told().claim(NodeId("n-9")) == "forbidden"
