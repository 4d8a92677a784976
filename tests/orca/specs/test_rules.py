"""The rules on finished specs, as the node applies them to what the API sends."""

import pytest

from orca.errors import Problem
from orca.model.ids import BlobDigest, ProjectName, ServiceName
from orca.model.spec import (
    ContainerImage,
    DependencySpec,
    ExecCheck,
    FileSpec,
    MountKind,
    MountSpec,
    PortSpec,
    ProbeSpec,
    Protocol,
    RouteSpec,
    ServiceSpec,
    WasmModule,
    WasmWorld,
)
from orca.specs.rules import check_services

DIGEST = BlobDigest("sha256:" + "0" * 64)


def _spec(name: str = "web", **fields: object) -> ServiceSpec:
    fields.setdefault("source", ContainerImage(image="x"))
    return ServiceSpec(name=ServiceName(name), **fields)  # type: ignore[arg-type]


def _needs(*names: str) -> tuple[DependencySpec, ...]:
    return tuple(DependencySpec(service=ServiceName(name)) for name in names)


def _one(*specs: ServiceSpec, existing: tuple[ServiceSpec, ...] = ()) -> Problem:
    (found,) = check_services(specs, existing)
    return found


def test_a_plain_service_has_no_problem() -> None:
    assert check_services([_spec()]) == ()


@pytest.mark.parametrize("name", ["", "Web", "-a", "a-", "a_b", "a.b", "a" * 64, "ä", "a\n"])
def test_names_are_host_labels(name: str) -> None:
    assert _one(_spec(name)).key == "services[0].name"
    assert _one(_spec(project=ProjectName(name))).key == "services[0].project"


@pytest.mark.parametrize("name", ["a", "1", "a-b", "a" * 63])
def test_host_labels_are_names(name: str) -> None:
    assert check_services([_spec(name)]) == ()


def test_a_name_may_be_used_once_in_a_project_and_again_in_another() -> None:
    assert "defined twice" in _one(_spec(), _spec()).message
    assert check_services([_spec(), _spec(project=ProjectName("other"))]) == ()


def test_a_cycle_is_shown_once_with_its_path() -> None:
    specs = [_spec("a", depends_on=_needs("b")), _spec("b", depends_on=_needs("c")), _spec("c", depends_on=_needs("a"))]
    found = _one(*specs)
    assert (found.key, found.message) == ("services[0].depends_on[0]", "services wait for each other: a → b → c → a")


def test_a_cycle_through_a_deployed_service_is_found() -> None:
    found = _one(_spec("a", depends_on=_needs("b")), existing=(_spec("b", depends_on=_needs("a")),))
    assert "a → b → a" in found.message


def test_two_ways_to_one_service_are_no_cycle() -> None:
    assert (
        check_services([_spec("a", depends_on=_needs("b", "c")), _spec("b", depends_on=_needs("c")), _spec("c")]) == ()
    )


def test_a_long_chain_of_dependencies_needs_no_deep_stack() -> None:
    specs = [_spec(f"s{n}", depends_on=_needs(f"s{n + 1}")) for n in range(3000)] + [_spec("s3000")]
    assert check_services(specs) == ()


def test_a_dependency_stays_in_its_project() -> None:
    other = _spec("db", project=ProjectName("other"))
    assert "does not exist" in _one(_spec(depends_on=_needs("db")), existing=(other,)).message
    assert check_services([_spec(depends_on=_needs("db"))], [_spec("db")]) == ()


def _routed(name: str, domain: str | None, path: str = "/") -> ServiceSpec:
    return _spec(name, ports=(PortSpec(port=80),), routes=(RouteSpec(domain=domain, path=path),))


def test_a_domain_and_path_belong_to_one_service() -> None:
    assert "already leads to service 'a'" in _one(_routed("a", "x.test"), _routed("b", "x.test")).message
    assert "which is deployed" in _one(_routed("b", None), existing=(_routed("a", None),)).message
    assert check_services([_routed("a", "x.test"), _routed("b", "x.test", "/b"), _routed("c", "y.test")]) == ()


def test_a_service_may_keep_its_own_route_when_it_is_deployed_again() -> None:
    assert check_services([_routed("a", "x.test")], [_routed("a", "x.test")]) == ()


def _published(name: str, port: int, ip: str = "0.0.0.0", protocol: Protocol = Protocol.TCP) -> ServiceSpec:
    return _spec(name, ports=(PortSpec(port=80, host_port=port, host_ip=ip, protocol=protocol),))


def test_a_host_port_belongs_to_one_service_an_address() -> None:
    assert "already published by service 'a'" in _one(_published("a", 80), _published("b", 80, "127.0.0.1")).message
    assert "which is deployed" in _one(_published("b", 80), existing=(_published("a", 80),)).message
    assert check_services([_published("a", 80, "127.0.0.1"), _published("b", 80, "127.0.0.2")]) == ()
    assert check_services([_published("a", 80), _published("b", 80, protocol=Protocol.UDP)]) == ()


def test_a_host_port_with_several_replicas_is_left_to_placement() -> None:
    spec = _spec(replicas=3, ports=(PortSpec(port=80, host_port=80),))
    assert check_services([spec]) == ()


@pytest.mark.parametrize("value", [-1, 10_001, 2**70])
def test_replicas_have_bounds(value: int) -> None:
    assert _one(_spec(replicas=value)).key == "services[0].replicas"


def test_targets_of_mounts_and_files_are_unique() -> None:
    mount = MountSpec(target="/x", kind=MountKind.TMPFS)
    assert "mounted twice" in _one(_spec(mounts=(mount,), files=(FileSpec(target="/x", content=DIGEST),))).message


@pytest.mark.parametrize("target", ["", "/", "x", "/a/../b", "/a//b", "/a/", "/a\0"])
def test_targets_are_clean_absolute_paths(target: str) -> None:
    assert "cannot be mounted on" in _one(_spec(mounts=(MountSpec(target=target, kind=MountKind.TMPFS),))).message


def test_a_wasm_module_may_have_volumes_and_no_exec_probe() -> None:
    module = WasmModule(module=DIGEST)
    mounts = (MountSpec(target="/d", source="d"), MountSpec(target="/e", source="/srv", kind=MountKind.BIND))
    assert check_services([_spec(source=module, mounts=mounts)]) == ()
    probe = ProbeSpec(check=ExecCheck(command=("x",)))
    assert "inside a Wasm module" in _one(_spec(source=module, readiness=probe)).message


def test_a_wasm_command_answers_no_requests() -> None:
    source = WasmModule(module=DIGEST, world=WasmWorld.COMMAND)
    assert "runs once" in _one(_spec(source=source, ports=(PortSpec(port=80),))).message


def test_a_secret_may_be_named_in_a_value_and_as_a_file_and_its_name_is_checked() -> None:
    assert not check_services([_spec(env={"URL": "pg://${secrets.db_url}/x"})], [])
    found = _one(_spec(env={"URL": "pg://${secrets.db/url}/x"}))
    assert found.key == "services[0].env.URL"
    assert "'db/url' is no name of a secret" in found.message


def test_a_file_has_one_of_a_content_a_secret_and_a_fence() -> None:
    for file in (FileSpec(target="/a"), FileSpec(target="/a", content=DIGEST, secret="db")):
        assert "a content, a secret or a fence" in _one(_spec(files=(file,))).message
