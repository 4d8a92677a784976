"""What people are shown of a change: all of it, by name, and no secret."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from node.differences import field_changes
from orca.model.ids import BlobDigest
from orca.model.spec import (
    ContainerImage,
    FileSpec,
    HttpCheck,
    MountSpec,
    PortSpec,
    ProbeSpec,
    Protocol,
    Resources,
    RouteSpec,
    ServiceSpec,
    Ulimit,
)
from orca.model.units import Bytes
from tests.consensus.intent import make_spec


def shown(before: ServiceSpec | None, after: ServiceSpec | None) -> list[tuple[str, str, str]]:
    return [(one.key, one.before, one.after) for one in field_changes(before, after)]


def test_a_field_that_changed_is_shown_with_both_values() -> None:
    assert shown(make_spec(image="web:1"), make_spec(image="web:2")) == [("source.image", '"web:1"', '"web:2"')]


def test_a_value_at_its_default_is_shown_as_absent() -> None:
    assert shown(make_spec(), make_spec(replicas=3)) == [("replicas", "", "3")]


def test_one_more_port_does_not_show_the_others_as_changed() -> None:
    before = make_spec(ports=(PortSpec(port=80), PortSpec(port=90)))
    after = make_spec(ports=(PortSpec(port=70), PortSpec(port=80), PortSpec(port=90, host_port=9000)))
    assert shown(before, after) == [("ports.70.port", "", "70"), ("ports.90.host_port", "", "9000")]


def test_a_port_of_both_protocols_is_two_things() -> None:
    udp = PortSpec(port=53, protocol=Protocol.UDP)
    before = make_spec(ports=(PortSpec(port=53), udp))
    after = make_spec(ports=(PortSpec(port=53, host_port=5353), udp))
    assert ("ports.53/tcp.host_port", "", "5353") in shown(before, after)


def test_ulimits_mounts_and_routes_are_shown_by_their_names() -> None:
    limits = (Ulimit(name="nofile", soft=1, hard=2),)
    before = ServiceSpec(name=make_spec().name, source=ContainerImage(image="x", ulimits=limits))
    after = ServiceSpec(
        name=make_spec().name,
        source=ContainerImage(image="x", ulimits=(Ulimit(name="nofile", soft=1, hard=3),)),
        mounts=(MountSpec(target="/d", source="data"),),
        routes=(RouteSpec(domain="a.example", path="/x"), RouteSpec()),
    )
    keys = [key for key, _, _ in shown(before, after)]
    assert keys == [
        "mounts./d.source",
        "mounts./d.target",
        "routes.*/.path",
        "routes.a.example/x.domain",
        "routes.a.example/x.path",
        "source.ulimits.nofile.hard",
    ]


def test_a_file_that_becomes_a_secret_is_shown_by_the_name_of_the_secret() -> None:
    digest = BlobDigest("sha256:" + "a" * 64)
    before, after = (
        make_spec(files=(FileSpec(target="/s", **one),)) for one in ({"content": digest}, {"secret": "db"})
    )
    assert shown(before, after) == [("files./s.content", f'"{digest}"', ""), ("files./s.secret", "", '"db"')]


PORTS = st.builds(
    PortSpec, port=st.integers(1, 3), protocol=st.sampled_from(Protocol), host_port=st.none() | st.just(8)
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "replicas": st.integers(0, 2),
    "env": st.dictionaries(st.sampled_from(["A", "A.B", "b"]), st.sampled_from(["", "1"]), max_size=2),
    "ports": st.lists(PORTS, max_size=3, unique_by=lambda one: (one.port, one.protocol)).map(tuple),
    "routes": st.lists(
        st.builds(RouteSpec, domain=st.sampled_from([None, "a"]), path=st.sampled_from(["/", "/x"]), port=st.none()),
        max_size=2,
        unique_by=lambda one: (one.domain, one.path),
    ).map(tuple),
    "readiness": st.none() | st.builds(ProbeSpec, check=st.builds(HttpCheck, path=st.sampled_from(["/", "/x"]))),
    "resources": st.builds(Resources, memory_bytes=st.sampled_from([None, Bytes(1)])),
    "internal": st.booleans(),
}
SPECS = st.fixed_dictionaries(FIELDS).map(lambda fields: make_spec(**fields))


@settings(max_examples=300, deadline=None)
@given(SPECS, SPECS)
def test_two_specs_show_no_difference_only_if_they_ask_for_the_same(before: ServiceSpec, after: ServiceSpec) -> None:
    def whole(spec: ServiceSpec) -> Any:
        plain = msgspec.to_builtins(spec)
        for key in ("ports", "routes"):
            plain[key] = sorted(plain.get(key, []), key=str)
        return plain

    assert (not field_changes(before, after)) == (whole(before) == whole(after))
    assert [(one.key, one.after, one.before) for one in field_changes(before, after)] == shown(after, before)
