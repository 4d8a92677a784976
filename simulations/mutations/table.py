"""Which planted bug is found by which checker, and after how many seeds."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from consensus.raft import RaftMachine
from simulations.mutations import members, nodes
from simulations.mutations.machines import MACHINES
from simulations.mutations.shells import SHELLS
from simulations.process import Process
from simulations.scenarios import gossip, raft, services
from simulations.scenarios.plans import PLANS
from simulations.scenarios.report import Report

SEEDS_MAX: Final = 200


class Mutation(msgspec.Struct, frozen=True, kw_only=True):
    """A planted bug, and the plans under which it is hunted: `run` is with the bug, `run_sound` without."""

    name: str
    what: str
    plans: tuple[str, ...]
    run: Callable[[int, str], Report]
    run_sound: Callable[[int, str], Report]


class Catch(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one bug: the first seed that found it, None for none; and who found what."""

    mutation: str
    what: str
    seeds_tried: int
    seed: int | None = None
    plan: str = ""
    checker: str = ""
    detail: str = ""


_RAFT: Final = {plan.name: plan for plan in PLANS}
_GOSSIP: Final = {plan.name: plan for plan in members.PLANS}
_SERVICES: Final = {plan.name: plan for plan in nodes.PLANS}


def _first_line(thing: type) -> str:
    return (thing.__doc__ or "").partition("\n")[0]


def _of_machine(machine: type[RaftMachine]) -> Mutation:
    return _of_process(type(machine.__name__, (Process,), {"machine_type": machine, "__doc__": machine.__doc__}))


def _of_process(process: type[Process]) -> Mutation:
    return Mutation(
        name=process.__name__,
        what=_first_line(process),
        plans=tuple(_RAFT),
        run=lambda seed, plan: raft.run(seed, _RAFT[plan], process_type=process),
        run_sound=lambda seed, plan: raft.run(seed, _RAFT[plan]),
    )


def _of_member(bug: members.Bug) -> Mutation:
    def run(seed: int, plan: str) -> Report:
        with members.planted(bug):
            return gossip.run(seed, plan=_GOSSIP[plan])

    return Mutation(
        name=bug.part.__name__,
        what=_first_line(bug.part),
        plans=tuple(_GOSSIP),
        run=run,
        run_sound=lambda seed, plan: gossip.run(seed, plan=_GOSSIP[plan]),
    )


def _of_node(bug: nodes.NodeBug) -> Mutation:
    def run(seed: int, plan: str) -> Report:
        with nodes.planted(bug):
            return services.run(seed, plan=_SERVICES[plan])

    return Mutation(
        name=bug.part.__name__,
        what=_first_line(bug.part),
        plans=tuple(_SERVICES),
        run=run,
        run_sound=lambda seed, plan: services.run(seed, plan=_SERVICES[plan]),
    )


MUTATIONS: Final[tuple[Mutation, ...]] = (
    *map(_of_machine, MACHINES),
    *map(_of_process, SHELLS),
    *map(_of_member, members.BUGS),
    *map(_of_node, nodes.BUGS),
)


def find(names: Iterable[str]) -> list[Mutation]:
    """Those with these names, all without any; KeyError for one that is none."""
    by_name = {mutation.name: mutation for mutation in MUTATIONS}
    return [by_name[name] for name in names] or list(MUTATIONS)


def hunt(mutation: Mutation, seeds_max: int = SEEDS_MAX, first: int = 1) -> Catch:
    """Run seeds with the bug in until a checker finds it, each of them under every plan.

    A run that fails without the bug, too, proves nothing.
    """
    for seed in range(first, first + seeds_max):
        for plan in mutation.plans:
            report = mutation.run(seed, plan)
            if report.is_good or not mutation.run_sound(seed, plan).is_good:
                continue
            violation = report.violations[0]
            return Catch(
                mutation=mutation.name,
                what=mutation.what,
                seeds_tried=seed - first + 1,
                seed=seed,
                plan=plan,
                checker=violation.checker,
                detail=violation.detail,
            )
    return Catch(mutation=mutation.name, what=mutation.what, seeds_tried=seeds_max)


def print_table(say: Callable[[str], None], only: Sequence[str], seeds_max: int | None) -> int:
    """One line a bug; 1 when one was not found."""
    missed = 0
    say(f"{'bug':<26}{'seeds':>5}  {'scenario':<11}{'found by':<22}what")
    for mutation in find(only):
        catch = hunt(mutation, seeds_max or SEEDS_MAX)
        missed += catch.seed is None
        found_by = catch.checker or f"NOT FOUND in {catch.seeds_tried}"
        say(f"{catch.mutation:<26}{catch.seeds_tried:>5}  {catch.plan:<11}{found_by:<22}{catch.what}")
    say(f"{len(find(only)) - missed} of {len(find(only))} found")
    return 1 if missed else 0
