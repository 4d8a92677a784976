"""Several drivers on one virtual clock: what they answer while leaders, links and members come and go."""

import pytest
import trio

from consensus.raft import AddLearner, Promote, Remove
from orca.errors import ConflictError, NotAvailableError, NotLeaderError, OrcaError, ProposalLostError, StoreFullError
from tests.consensus.driver_group import group, until


async def test_every_node_takes_a_change_and_all_have_it(autojump_clock: object) -> None:
    async with group() as (_made, peers):
        for number, peer in enumerate(peers):
            assert not (await peer.admit(f"x{number}")).error
        await until(lambda: all(peer.names == {"x0", "x1", "x2"} for peer in peers), "all have all")


async def test_a_dead_leader_is_replaced_and_nothing_answered_is_lost(autojump_clock: object) -> None:
    async with group() as (made, peers):
        old = await made.leader()
        await old.admit("before")
        old.crash()
        began = trio.current_time()
        survivor = next(peer for peer in peers if peer is not old)
        while True:
            try:
                await survivor.admit("after", deadline_s=2.0)
                break
            except OrcaError:
                await trio.sleep(0.1)
        assert trio.current_time() - began < 5.0
        old.restart()
        await until(lambda: old.names == {"before", "after"}, "the old leader catches up")


async def test_a_leader_that_is_cut_off_promises_nothing(autojump_clock: object) -> None:
    async with group() as (made, peers):
        old = await made.leader()
        made.isolate(old)
        with pytest.raises((ProposalLostError, NotLeaderError, NotAvailableError)):
            await old.admit("lost?", deadline_s=5.0)
        others = [peer for peer in peers if peer is not old]
        await until(lambda: any(peer.driver.is_leader for peer in others), "a new leader")
        await next(peer for peer in others if peer.driver.is_leader).admit("kept")
        with pytest.raises((NotLeaderError, NotAvailableError)):
            await old.driver.read_barrier(deadline_s=2.0)
        made.heal()
        await until(lambda: "kept" in old.names, "the old leader follows")


async def test_a_read_barrier_sees_what_was_answered_elsewhere(autojump_clock: object) -> None:
    async with group() as (made, peers):
        leader = await made.leader()
        follower = next(peer for peer in peers if peer is not leader)
        for number in range(5):
            await leader.admit(f"x{number}")
            await follower.driver.read_barrier()
            assert f"x{number}" in follower.names


async def test_a_new_node_joins_as_a_learner_becomes_a_voter_and_the_old_one_goes(autojump_clock: object) -> None:
    async with group() as (made, _peers):
        leader = await made.leader()
        await leader.admit("early")
        newcomer = made.add("w", frozenset())
        await leader.driver.change_group(AddLearner(node=newcomer.node))
        await until(lambda: newcomer.names == {"early"}, "the learner has the state")
        with pytest.raises(ConflictError):
            await leader.driver.change_group(AddLearner(node=newcomer.node))
        await leader.driver.change_group(Promote(node=newcomer.node))
        gone = next(peer for peer in made.peers.values() if peer not in (leader, newcomer))
        await leader.driver.change_group(Remove(node=gone.node))
        assert set(leader.driver.raft.membership.voters) == {
            peer.node for peer in made.peers.values() if peer is not gone
        }
        await leader.admit("late")
        await until(lambda: "late" in newcomer.names, "the new voter has what came later")


async def test_a_node_far_behind_gets_the_snapshot(autojump_clock: object) -> None:
    async with group(log_entries_kept=20) as (made, peers):
        leader = await made.leader()
        behind = next(peer for peer in peers if peer is not leader)
        made.isolate(behind)
        await trio.sleep(3)
        leader = next(peer for peer in peers if peer is not behind and peer.driver.is_leader)
        for number in range(1200):
            await leader.admit(f"x{number % 7}")
        made.heal()
        await until(lambda: behind.driver.applied_index >= leader.driver.applied_index - 1, "it catches up")
        assert behind.names == leader.names


async def test_all_restart_and_keep_what_was_answered(autojump_clock: object) -> None:
    async with group() as (made, peers):
        leader = await made.leader()
        for number in range(20):
            await leader.admit(f"x{number}")
        for peer in peers:
            peer.crash()
        for peer in peers:
            peer.restart()
        await until(lambda: all(len(peer.names) == 20 for peer in peers), "all have everything again")


async def test_leadership_is_handed_over_when_asked(autojump_clock: object) -> None:
    async with group() as (made, peers):
        leader = await made.leader()
        heir = next(peer for peer in peers if peer is not leader)
        leader.driver.hand_over(heir.node)
        await until(lambda: heir.driver.is_leader, "the heir leads")


async def test_who_restarts_without_a_leader_knows_what_it_knew(autojump_clock: object) -> None:
    async with group() as (made, peers):
        leader = await made.leader()
        for number in range(20):
            await leader.admit(f"x{number}")
        await until(lambda: all(len(peer.names) == 20 for peer in peers), "all have it")
        await trio.sleep(1.0)
        for peer in peers:
            peer.crash()
        peers[0].restart()
        await trio.sleep(6.0)
        assert peers[0].driver.raft.leader is None
        assert len(peers[0].names) == 20


async def test_a_group_without_a_quorum_goes_on_from_one_survivor(autojump_clock: object) -> None:
    async with group() as (made, peers):
        leader = await made.leader()
        for number in range(20):
            await leader.admit(f"x{number}")
        survivor, *lost = sorted(peers, key=lambda peer: peer is leader)
        await until(lambda: len(survivor.names) == 20, "the survivor has it")
        made.isolate(survivor)
        await leader.admit("of the old life")
        for peer in lost:
            peer.crash()
        made.heal()

        await survivor.driver.start_anew(1)
        await until(lambda: survivor.driver.is_leader, "it leads alone")
        assert survivor.driver.raft.epoch == 1
        await survivor.admit("of the new life")
        assert len(survivor.names) == 21

        # Those who come back with another past set it aside, and follow.
        for peer in lost:
            peer.restart()
        for peer in lost:
            await until(lambda peer=peer: peer.outranked_by == [1], "it meets the new life")  # type: ignore[misc]
            assert peer.lost.last_index > 20, "nothing of the old log was lost"
        for peer in lost:
            await survivor.driver.change_group(AddLearner(node=peer.node))
            await until(lambda peer=peer: peer.names == survivor.names, "it has the new life")  # type: ignore[misc]
            await survivor.driver.change_group(Promote(node=peer.node))
        assert all("of the old life" not in peer.names for peer in peers)
        survivor.crash()
        await until(lambda: any(peer.driver.is_leader for peer in lost), "the others can lead again")


async def test_a_full_disk_lets_no_new_life_begin(autojump_clock: object) -> None:
    async with group() as (made, peers):
        await (await made.leader()).admit("x")
        survivor, *lost = peers
        for peer in lost:
            peer.crash()
        await trio.sleep(5.0)
        survivor.store.bytes_max = 0
        with pytest.raises(StoreFullError):
            await survivor.driver.start_anew(1)
        assert survivor.driver.raft.epoch == 0
        survivor.store.bytes_max = None
        await survivor.driver.start_anew(1)
        await until(lambda: survivor.driver.is_leader, "it leads alone")
