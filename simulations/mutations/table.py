"""Which planted bug is found by which checker, and after how many seeds."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from consensus.raft import RaftMachine
from simulations.mutations.machines import MACHINES
from simulations.mutations.shells import SHELLS
from simulations.process import Process
from simulations.scenarios import raft
from simulations.scenarios.plans import PLANS

SEEDS_MAX: Final = 200


class Mutation(msgspec.Struct, frozen=True, kw_only=True):
    """A planted bug: a process that has it."""

    name: str
    what: str
    process_type: type[Process]


class Catch(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one bug: the first seed that found it, None for none; and who found what."""

    mutation: str
    what: str
    seeds_tried: int
    seed: int | None = None
    plan: str = ""
    checker: str = ""
    detail: str = ""


def _process_with(machine: type[RaftMachine]) -> type[Process]:
    return type(machine.__name__, (Process,), {"machine_type": machine})


def _first_line(thing: type) -> str:
    return (thing.__doc__ or "").partition("\n")[0]


MUTATIONS: Final[tuple[Mutation, ...]] = tuple(
    [Mutation(name=one.__name__, what=_first_line(one), process_type=_process_with(one)) for one in MACHINES]
    + [Mutation(name=one.__name__, what=_first_line(one), process_type=one) for one in SHELLS]
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
        for plan in PLANS:
            report = raft.run(seed, plan, process_type=mutation.process_type)
            if report.is_good or not raft.run(seed, plan).is_good:
                continue
            violation = report.violations[0]
            return Catch(
                mutation=mutation.name,
                what=mutation.what,
                seeds_tried=seed - first + 1,
                seed=seed,
                plan=plan.name,
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
