"""From the kill of a container to serving again through the proxy: `python -m simulations.bench.heal`.

Each service has one copy, so nothing answers until it is healed, and each is killed
once: the second death within a minute would be told to wait. Every life of a copy has a
body of its own. The limit is the bare engine: start of a killed container by API, until
it answers.

Two cores and nothing else to do, median of ten (0.67 to 1.34 s):

    what               result    raw start    ratio
    kill to serving    1.04 s    0.58 s       1.80    <= 1.5 s
"""

import statistics
import time
from pathlib import Path
from typing import Any, Final

from orca.model.ids import ServiceName
from orca.model.spec import ContainerImage, PortSpec, PullPolicy, ServiceSpec
from simulations.bench.node_process import NodeProcess, route_of, running_node
from simulations.bench.report import Line, say, show
from simulations.bench.sandbox import IMAGE, PORT, EngineSocket, body_of, run_inside, until

ROUNDS: Final = 10
GOAL_S: Final = 1.5
COMMAND: Final = (
    "/bin/sh",
    "-c",
    f"read life < /proc/sys/kernel/random/uuid; echo $life > /www/index.html; exec httpd -f -p {PORT} -h /www",
)
_SETTLE_S: Final = 0.5
_PAUSE_S: Final = 0.005


def spec(number: int) -> ServiceSpec:
    """One of the services."""
    name = f"heal{number}"
    return ServiceSpec(
        name=ServiceName(name),
        source=ContainerImage(image=IMAGE, pull=PullPolicy.NEVER, command=COMMAND),
        ports=(PortSpec(port=PORT),),
        routes=route_of(name),
    )


def raw_s(engine: EngineSocket, number: int) -> float:
    """Seconds from the kill of a bare container until its next life answers."""
    body: dict[str, Any] = {"Image": IMAGE, "Cmd": list(COMMAND), "HostConfig": {"Init": True}}
    container = engine.call("POST", f"/containers/create?name=raw-{number}", body)["Id"]
    engine.call("POST", f"/containers/{container}/start")

    def life() -> str | None:
        found = engine.call("GET", f"/containers/{container}/json")
        address = str(found["NetworkSettings"]["IPAddress"])
        return body_of(address, PORT) if address else None

    first = until(life, "the raw container answers")
    time.sleep(_SETTLE_S)
    asked = time.perf_counter()
    engine.call("POST", f"/containers/{container}/kill")
    engine.call("POST", f"/containers/{container}/wait?condition=not-running")
    engine.call("POST", f"/containers/{container}/start")
    until(lambda: life() not in {first, None}, "the raw container answers again", pause_s=_PAUSE_S)
    took_s = time.perf_counter() - asked
    engine.call("DELETE", f"/containers/{container}?force=1")
    return took_s


def orca_s(engine: EngineSocket, node: NodeProcess, number: int) -> float:
    """Seconds from the kill of a copy's container until its next life answers through the proxy."""
    name = f"heal{number}"
    first = until(lambda: node.ask(name), f"{name} answers")
    filters = f"%7B%22label%22%3A%5B%22orca.service%3Ddefault/{name}%22%5D%7D"
    (container,) = engine.call("GET", f"/containers/json?filters={filters}")
    time.sleep(_SETTLE_S)
    asked = time.perf_counter()
    engine.call("POST", f"/containers/{container['Id']}/kill")
    until(lambda: node.ask(name) not in {first, None}, f"{name} answers again", pause_s=_PAUSE_S)
    return time.perf_counter() - asked


def measure(directory: Path, engine: EngineSocket) -> list[Line]:
    """Both in turn."""
    orca: list[float] = []
    raw: list[float] = []
    with running_node(directory, docker_url=f"unix://{directory / 'd.sock'}") as node:
        node.deploy(*(spec(number) for number in range(ROUNDS)))
        for number in range(ROUNDS):
            orca.append(orca_s(engine, node, number))
            raw.append(raw_s(engine, number))
            say(f"heal: orca {orca[-1]:.3f} s, raw {raw[-1]:.3f} s")
        for number in range(ROUNDS):
            node.call("DELETE", f"/v1/services/default/heal{number}")
        until(lambda: not engine.call("GET", "/containers/json?all=1"), "all containers are gone", pause_s=0.1)
    return [
        Line(
            bench="heal",
            what="kill to serving",
            unit="s",
            result=statistics.median(orca),
            limit=statistics.median(raw),
            limit_name="(raw start)",
            goal=GOAL_S,
            is_goal_of_ratio=False,
        )
    ]


def main() -> list[Line]:
    """Measure in a sandbox."""
    return run_inside("simulations.bench.heal", measure)


if __name__ == "__main__":
    show(main())
