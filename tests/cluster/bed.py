"""What people do and see on computers with engines of their own: a service of `COPIES` copies on all of them, the load
of its users, and what the command line says of it."""

import time
from collections.abc import Sequence
from typing import Any

from tests.cluster.computers import SETTLE_S, alive
from tests.cluster.machines import Machine
from tests.cluster.namespaces import Host
from tests.images import docker
from tests.integration.node import until
from tests.integration.services import container

COPIES = 4
ROUTED_AROUND_S = 3.0
MOVED_S = 30.0
"""DESIGN's 10 s, and what two cores need to start the containers of all beside everything else."""
MORE = 'health = "/web/"\n[service.placement]\nspread = "zone"\n'


Bed = tuple[Sequence[Machine], Host]
"""The computers, and one more place to ask them from."""


def make_whole(found: Sequence[Machine]) -> None:
    """All computers on, all nodes up and all copies ready, whatever was done before."""
    for one in found:
        one.host.plug()
        one.host.accept_all()
    off = [one for one in found if one.init == 0]
    for one in off:
        one.boot()
    for one in off:
        one.wait_engine()
        one.spawn("up")
    names = sorted(one.name for one in found)
    for one in found:
        until(lambda one=one: alive(one) == names, f"{one.name} lists all", SETTLE_S)  # type: ignore[misc] # bound now
    until(lambda: is_well(found[0]), "all copies are ready", SETTLE_S)


def deploy(one: Machine, say: str, name: str = "web", more: str = MORE) -> None:
    path = one.directory / f"{name}.toml"
    path.write_text(container(name, say=say, replicas=COPIES, more=more))
    one.orca("deploy", str(path)).good()


def urls(*found: Machine, name: str = "web") -> list[str]:
    return [f"http://{one.host.address}/{name}/" for one in found]


def heard_of(one: Machine, name: str = "web") -> list[Any]:
    """The copies that are to run on nodes that are heard: those of a silent one are kept until it is back."""
    reply = one.json("ps", name)
    found = [] if reply is None else [copy for copy in reply["allocations"] if copy["desired"] == "running"]
    return [copy for copy in found if copy["silent_ms"] is None]


def is_well(one: Machine, *, without: str = "", name: str = "web") -> bool:
    """Whether as many copies as were asked for are ready, none of them on the node called `without`."""
    found = heard_of(one, name)
    are_ready = all(copy["is_ready"] for copy in found)
    return len(found) == COPIES and are_ready and without not in {copy["node_name"] for copy in found}


def containers(one: Machine, name: str = "web") -> int:
    """How many containers of the service the engine runs."""
    return len(docker("ps", "-q", "--filter", f"label=orca.service=default/{name}", host=one.engine).split())


def leader(found: Sequence[Machine]) -> Machine:
    """Who leads, as all that run say."""

    def look() -> str | None:
        replies = [one.json("status") for one in found]
        leaders = {None if reply is None else reply["leader"] for reply in replies}
        names = {node["facts"]["id"]: node["facts"]["name"] for reply in replies if reply for node in reply["nodes"]}
        name = leaders.pop() if len(leaders) == 1 else None
        return names.get(name) if name else None

    name = until(look, "one leader for all", SETTLE_S)
    return next(one for one in found if one.name == name)


def for_a_while(seconds: float) -> None:
    """Let users go on for so long: what they meet is looked at, and there is no event to wait for."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end, "the time is over", seconds + 1)
