"""Who gets a lease, and what is no question about one."""

import pytest

from consensus.state.commands import LeaseRef
from node.singletons.messages import (
    LeaseGiven,
    LeasesHeld,
    LeaseWanted,
    check_right,
    decode_answer,
    decode_question,
    encode,
)
from orca.errors import ForbiddenError, PeerProtocolError
from orca.model.ids import AllocationId, LeaseEpoch, LeaseName, NodeId
from orca.model.spec import SingletonSpec
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World

PEER = NodeId("n-peer")


def placed(*, singleton: bool = True) -> World:
    world = World()
    world.put(make_spec(singleton=SingletonSpec() if singleton else None))
    world.think_all()
    return world


def test_the_node_that_is_to_run_a_singleton_gets_its_lease_and_no_other_node_does() -> None:
    world = placed()
    (copy,) = world.copies()
    assert check_right(world.state, copy.node, LeaseWanted(allocation=copy.id)) == copy
    with pytest.raises(ForbiddenError, match="n-peer is not to run"):
        check_right(world.state, PEER, LeaseWanted(allocation=copy.id))
    with pytest.raises(ForbiddenError, match="is not to run c9"):
        check_right(world.state, copy.node, LeaseWanted(allocation=AllocationId("c9")))


def test_a_copy_that_is_to_stop_gets_none() -> None:
    world = placed()
    (copy,) = world.copies()
    world.put(make_spec(replicas=0, singleton=SingletonSpec()))
    world.think_all()
    with pytest.raises(ForbiddenError, match="is not to run"):
        check_right(world.state, copy.node, LeaseWanted(allocation=copy.id))


def test_what_is_no_singleton_needs_none() -> None:
    world = placed(singleton=False)
    (copy,) = world.copies()
    with pytest.raises(ForbiddenError, match="is no singleton"):
        check_right(world.state, copy.node, LeaseWanted(allocation=copy.id))


def test_words_come_back_as_they_went_and_others_are_refused() -> None:
    held = LeasesHeld(leases=(LeaseRef(lease=LeaseName("singleton/default/one"), epoch=LeaseEpoch(7)),))
    assert decode_question(encode(held), PEER) == held
    given = LeaseGiven(epoch=LeaseEpoch(7))
    assert decode_answer(encode(given), PEER) == given
    for payload in (b"", b"\xc1", encode(given), encode({"type": "held"})):
        with pytest.raises(PeerProtocolError, match="n-peer asks about leases in words that are none"):
            decode_question(payload, PEER)
    with pytest.raises(PeerProtocolError, match="n-peer answers"):
        decode_answer(encode(held), PEER)
