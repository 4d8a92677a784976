"""What a one-off run is made of, and which runs that are over go."""

import msgspec
import pytest

from orca.commands.run import LABEL, RUNS_KEPT, RunOptions, run_of, runs_to_forget
from orca.errors import InvalidRequestError
from orca.model.allocation import Phase
from orca.model.ids import BlobDigest, ProjectName, ServiceId, ServiceName
from orca.model.spec import (
    ContainerImage,
    MountSpec,
    PlacementSpec,
    PortSpec,
    ProbeSpec,
    Resources,
    RouteSpec,
    ServiceMode,
    ServiceSpec,
    TcpCheck,
    WasmModule,
    WasmWorld,
)
from orca.model.units import Bytes, MilliCpu, WallMs
from orca.model.view import RolloutState, ServiceView
from tests.orca.commands.views import copy, service

WEB = ServiceSpec(
    name=ServiceName("web"),
    project=ProjectName("shop"),
    source=ContainerImage(image="web:1", command=("serve",)),
    replicas=5,
    mode=ServiceMode.GLOBAL,
    ports=(PortSpec(port=80, host_port=8080),),
    routes=(RouteSpec(domain="example.com"),),
    readiness=ProbeSpec(check=TcpCheck()),
    env={"A": "1", "B": "2"},
    mounts=(MountSpec(target="/data", source="data"),),
    aliases=("www",),
    resources=Resources(cpu_milli=MilliCpu(100), memory_bytes=Bytes(5)),
    placement=PlacementSpec(node="alpha", copies_per_node_max=1, beside=(ServiceName("db"),)),
)


def test_a_run_of_a_service_takes_what_it_works_with_and_none_of_its_requests() -> None:
    options = RunOptions(env={"B": "3"}, resources=Resources(memory_bytes=Bytes(7)), node="beta")
    run = run_of(WEB, "web", ("migrate", "--all"), options, "0a1b2c")
    assert run.id == "shop/web-run-0a1b2c"
    assert run.source == ContainerImage(image="web:1", command=("migrate", "--all"))
    assert run.is_job
    assert (run.replicas, run.mode) == (1, ServiceMode.REPLICATED)
    assert run.env == {"A": "1", "B": "3"}
    assert run.mounts == WEB.mounts
    assert run.resources == Resources(cpu_milli=MilliCpu(100), memory_bytes=Bytes(7))
    assert run.placement == PlacementSpec(node="beta")
    assert (run.ports, run.routes, run.aliases, run.readiness) == ((), (), (), None)
    assert run.disconnect.replace_after_s is None, "a second one must not start while nobody knows of the first"
    assert run.labels == {LABEL: "web"}


def test_a_run_without_a_command_runs_the_one_of_the_service() -> None:
    assert run_of(WEB, "web", (), RunOptions(), "0a1b2c").source == WEB.source


def test_the_name_of_a_run_is_never_too_long() -> None:
    long = msgspec.structs.replace(WEB, name=ServiceName("a" * 51 + "-" + "b" * 11))
    assert run_of(long, "x", (), RunOptions(), "0a1b2c").name == "a" * 51 + "-run-0a1b2c"


def test_a_module_runs_as_a_command_and_one_that_answers_requests_is_refused() -> None:
    module = WasmModule(module=BlobDigest("sha256:" + "0" * 64), world=WasmWorld.WAGI)
    run = run_of(msgspec.structs.replace(WEB, source=module), "web", ("x",), RunOptions(), "0a1b2c")
    assert run.source == msgspec.structs.replace(module, world=WasmWorld.COMMAND, args=("x",))
    server = msgspec.structs.replace(WEB, source=msgspec.structs.replace(module, world=WasmWorld.HTTP))
    with pytest.raises(InvalidRequestError, match="no command to run"):
        run_of(server, "web", ("x",), RunOptions(), "0a1b2c")


def old_run(number: int, *, phase: Phase = Phase.COMPLETED, project: str = "default") -> ServiceView:
    name = f"{project}/web-run-{number:06x}"
    state = RolloutState.COMPLETED if phase is Phase.COMPLETED else RolloutState.PROGRESSING
    view = service(name, copy(name, phase=phase), state=state, is_job=True)
    return msgspec.structs.replace(view, updated_at_ms=WallMs(number))


def test_of_the_runs_that_are_over_the_oldest_go() -> None:
    over = [old_run(number) for number in range(1, RUNS_KEPT + 3)]
    others = [
        old_run(0, phase=Phase.RUNNING),
        old_run(0, project="shop"),
        service("web-run-000000", copy("web-run-000000", ready=True), state=RolloutState.COMPLETED),
        service("nightly", copy("nightly", phase=Phase.COMPLETED), state=RolloutState.COMPLETED, is_job=True),
    ]
    oldest = (ServiceId("default/web-run-000001"), ServiceId("default/web-run-000002"))
    assert runs_to_forget([*reversed(over), *others], ProjectName("default")) == oldest
    assert runs_to_forget([*over[2:], *others], ProjectName("default")) == ()
