"""Deploys of 1, 10 and 50 replicas, against the bare engine and Swarm: `python -m simulations.bench.deploy`.

All three run on one engine, with the same image, command, limits and init, in turn.
Raw is create and start of the very bodies that Orca sends, in the best number of
threads, on a bridge of its own made within the time, until each answers a TCP connect.
Swarm is its service API with ports published in host mode, until every task has
answered a GET: once on an overlay network of its own made within the time, so that
services find each other by name as they do with the other two, and once without any,
which spares the engine one more start of itself a container for the name server.
Orca's time ends when every replica has answered through the proxy.
"""

import http.client
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import local
from typing import Any, Final

from node.runtime.base import Workload
from node.runtime.docker.request import create_body
from orca.model.ids import AllocationId, ClusterId, NodeId, ServiceId, ServiceName, SpecRevision
from orca.model.spec import ContainerImage, PortSpec, PullPolicy, Resources, ServiceSpec
from orca.model.units import Bytes
from simulations.bench.node_process import NodeProcess, domain_of, route_of, running_node
from simulations.bench.report import Line, say, show
from simulations.bench.sandbox import COMMAND, IMAGE, PORT, EngineSocket, accepts, body_of, run_inside, until

ROUNDS: Final = {1: 5, 10: 3, 50: 3}
CONCURRENCIES: Final = (2, 4, 8)
GOAL_RAW: Final = 1.15
GOAL_SWARM: Final = 1.0
NAME: Final = "bench"
_MEMORY: Final = Bytes(32 * 2**20)
_PIDS: Final = 64
_OWN_NETWORKS: Final = frozenset({"bridge", "host", "none", "ingress", "docker_gwbridge"})


def spec(replicas: int) -> ServiceSpec:
    """The service of all three."""
    return ServiceSpec(
        name=ServiceName(NAME),
        source=ContainerImage(image=IMAGE, pull=PullPolicy.NEVER, command=COMMAND),
        replicas=replicas,
        ports=(PortSpec(port=PORT),),
        routes=route_of(NAME),
        resources=Resources(memory_bytes=_MEMORY, pids_max=_PIDS),
    )


class Engine:
    """The engine, with a connection for each thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = local()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call by this thread."""
        mine: EngineSocket | None = getattr(self._local, "engine", None)
        if mine is None:
            mine = self._local.engine = EngineSocket(self._path)
        try:
            return mine.call(method, path, body)
        except http.client.HTTPException:
            mine.close()
            raise

    def wait_empty(self) -> None:
        """Return once no container is left, and no network of a project: taking them away costs time too."""

        def is_empty() -> bool:
            networks = {network["Name"] for network in self.call("GET", "/networks")}
            return networks <= _OWN_NETWORKS and not self.call("GET", "/containers/json?all=1")

        until(is_empty, "all containers and networks are gone", pause_s=0.1)


def raw_s(engine: Engine, replicas: int, concurrency: int) -> float:
    """Seconds of concurrent creates and starts until each answers a connect."""
    network = f"raw-{replicas}-{concurrency}"

    def launch(slot: int) -> str:
        workload = Workload(
            allocation=AllocationId(f"raw-{slot}"),
            service=ServiceId(f"default/{NAME}"),
            revision=SpecRevision(1),
            template="",
            slot=slot,
            cluster=ClusterId("c-raw"),
            node=NodeId("n-raw"),
            spec=spec(replicas),
        )
        body = create_body(workload, (network,), has_init=True)
        container = str(engine.call("POST", f"/containers/create?name=raw-{slot}", body)["Id"])
        engine.call("POST", f"/containers/{container}/start")
        found = engine.call("GET", f"/containers/{container}/json")
        address = found["NetworkSettings"]["Networks"][network]["IPAddress"]
        until(lambda: accepts(address, PORT), "a container accepts", pause_s=0.002)
        return container

    with ThreadPoolExecutor(concurrency) as threads:
        started = time.perf_counter()
        engine.call("POST", "/networks/create", {"Name": network, "Driver": "bridge", "CheckDuplicate": True})
        containers = list(threads.map(launch, range(replicas)))
        took_s = time.perf_counter() - started
        list(threads.map(lambda one: engine.call("DELETE", f"/containers/{one}?force=1&v=1"), containers))
    engine.call("DELETE", f"/networks/{network}")
    return took_s


def swarm_s(engine: Engine, replicas: int, network: str | None) -> float:
    """Seconds from the service's creation until every task has answered; on an overlay `network` if named."""
    task: dict[str, Any] = {
        "ContainerSpec": {"Image": IMAGE, "Command": list(COMMAND), "Init": True},
        "Resources": {"Limits": {"MemoryBytes": int(_MEMORY), "Pids": _PIDS}},
    }
    body = {
        "Name": NAME,
        "TaskTemplate": task,
        "Mode": {"Replicated": {"Replicas": replicas}},
        "EndpointSpec": {"Mode": "dnsrr", "Ports": [{"Protocol": "tcp", "TargetPort": PORT, "PublishMode": "host"}]},
    }
    answered: set[str] = set()

    def all_answer() -> bool:
        for container in engine.call("GET", "/containers/json"):
            ports = [port["PublicPort"] for port in container["Ports"] if port.get("PublicPort")]
            if ports and container["Id"] not in answered and body_of("127.0.0.1", ports[0]):
                answered.add(container["Id"])
        return len(answered) >= replicas

    started = time.perf_counter()
    if network is not None:
        engine.call("POST", "/networks/create", {"Name": network, "Driver": "overlay"})
        task["Networks"] = [{"Target": network}]
    service = engine.call("POST", "/services/create", body)["ID"]
    until(all_answer, f"{replicas} Swarm tasks answer")
    took_s = time.perf_counter() - started
    engine.call("DELETE", f"/services/{service}")
    if network is not None:
        until(lambda: not engine.call("GET", "/containers/json?all=1"), "all tasks are gone", pause_s=0.1)
        engine.call("DELETE", f"/networks/{network}")
    return took_s


def orca_s(node: NodeProcess, replicas: int) -> float:
    """Seconds from the deploy until every replica has answered through the proxy."""
    answered: set[str] = set()
    connection = http.client.HTTPConnection("127.0.0.1", node.ingress, timeout=5)

    def all_answer() -> bool:
        connection.request("GET", "/", headers={"host": domain_of(NAME)})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status == 200:
            answered.add(content.decode().strip())
        return len(answered) >= replicas

    started = time.perf_counter()
    node.deploy(spec(replicas))
    # Which copy answers is drawn at random: asking before nearly all are there only takes their time.
    pause_s = 0.02 if replicas == 1 else 0.1  # an answer about fifty copies costs the computer a few milliseconds
    until(lambda: node.ready(NAME) >= replicas, f"{replicas} copies are ready", pause_s=pause_s)
    until(all_answer, f"{replicas} copies answer", pause_s=0)
    took_s = time.perf_counter() - started
    connection.close()
    node.remove(NAME)
    return took_s


def _start_swarm(engine: Engine) -> str:
    """Make the engine a swarm of one; why it could not be, or nothing."""
    body = {"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1", "ForceNewCluster": False}
    try:
        engine.call("POST", "/swarm/init", body)
    except RuntimeError as error:
        return str(error)
    return ""


def measure(directory: Path, _: EngineSocket) -> list[Line]:
    """The three of them in turn, for each number of replicas."""
    engine = Engine(directory / "d.sock")
    no_swarm = _start_swarm(engine)
    if no_swarm:
        say(f"deploy: without Swarm, which cannot run here: {no_swarm}")
    lines: list[Line] = []
    with running_node(directory, docker_url=f"unix://{directory / 'd.sock'}") as node:
        until(lambda: node.call("GET", "/v1/node")["facts"]["runtimes"][0]["is_available"], "Docker is seen")
        orca_s(node, 1)
        for replicas, rounds in ROUNDS.items():
            tries: dict[str, Callable[[], float]] = {"orca": lambda n=replicas: orca_s(node, n)}  # type: ignore[misc]
            for threads in CONCURRENCIES if replicas > 1 else (1,):
                tries[f"raw {threads}"] = lambda n=replicas, t=threads: raw_s(engine, n, t)  # type: ignore[misc]
            if not no_swarm:
                tries["swarm"] = lambda n=replicas: swarm_s(engine, n, "overlay")  # type: ignore[misc]
                tries["swarm, no network"] = lambda n=replicas: swarm_s(engine, n, None)  # type: ignore[misc]
            took: dict[str, list[float]] = {name: [] for name in tries}
            for _round in range(rounds):
                for name, run in tries.items():
                    engine.wait_empty()
                    took[name].append(run())
                    say(f"deploy: {replicas} replicas, {name}: {took[name][-1]:.2f} s")
            lines += _compare(replicas, {name: statistics.median(all_s) for name, all_s in took.items()})
    with suppress(RuntimeError):
        engine.wait_empty()
    return lines


def _compare(replicas: int, medians: dict[str, float]) -> list[Line]:
    raw = min((name for name in medians if name.startswith("raw")), key=lambda name: medians[name])
    what = f"{replicas} replica{'s' if replicas > 1 else ''}"
    limits = [(medians[raw], f"({raw})", GOAL_RAW)]
    limits += [(took_s, f"({name})", GOAL_SWARM) for name, took_s in medians.items() if name.startswith("swarm")]
    return [
        Line(bench="deploy", what=what, unit="s", result=medians["orca"], limit=limit, limit_name=limit_name, goal=goal)
        for limit, limit_name, goal in limits
    ]


def main() -> list[Line]:
    """Measure in a sandbox."""
    return run_inside("simulations.bench.deploy", measure)


if __name__ == "__main__":
    show(main())
