from consensus.raft import RaftConfig
from simulations.faults import calm
from simulations.scenarios import progress, raft
from simulations.scenarios.plans import Plan


def run(seed: int, plan: Plan) -> raft.RaftChaos:
    chaos = raft.RaftChaos(seed, plan)
    report = chaos.run()
    assert report.violations == []
    return chaos


def test_voters_that_are_killed_for_good_are_replaced_and_nothing_is_lost() -> None:
    chaos = run(5, Plan(voters=3, learners=0, chaos_s=40, mood=calm(kill=3), config=RaftConfig()))
    dead = [one.node for one in chaos.processes.values() if one.is_gone_for_good]
    leader = progress.current_leader(chaos.processes)
    assert leader is not None
    group = leader.machine.membership
    assert len(dead) >= 3, "so all of the first voters may be gone"
    assert not set(dead) & set(group.members)
    assert len(group.voters) == 3


def test_a_group_may_change_without_a_fault_and_keeps_its_writes() -> None:
    chaos = run(6, Plan(voters=3, learners=1, chaos_s=30, mood=calm(change=0.5)))
    assert chaos.processes["n1"].counts.steps > 0  # type: ignore[index]
    assert len(chaos.processes) > 4
