"""The pure parts of the Docker runtime: names, bodies, frames, times, refusals."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.runtime.base import InstanceState, LogStream, Workload
from node.runtime.docker.frames import FrameReader, JsonLines, LogReader
from node.runtime.docker.reading import (
    PullState,
    read_endpoints,
    read_event,
    read_instance,
    read_stats,
    read_version,
    time_ns,
)
from node.runtime.docker.refusals import EngineRefusedError, as_error, image_error
from node.runtime.docker.request import container_name, create_body, networks_of, normalised_image, split_image
from orca.errors import (
    ImageNotFoundError,
    InstanceNotFoundError,
    InvalidRequestError,
    OrcaError,
    PortTakenError,
    RuntimeFailedError,
)
from orca.model.ids import AllocationId, BlobDigest, ClusterId, NodeId, ProjectName, ServiceName, SpecRevision
from orca.model.spec import ContainerImage, FileSpec, MountKind, MountSpec, PortSpec, ServiceSpec, WasmModule
from orca.model.units import WallMs


def frame(stream: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(payload)) + payload


def workload(spec: ServiceSpec, files_dir: str = "") -> Workload:
    return Workload(
        allocation=AllocationId("abcdefghijkl"),
        service=spec.id,
        revision=SpecRevision(4),
        template="cafe",
        slot=2,
        cluster=ClusterId("c-1"),
        node=NodeId("n-1"),
        spec=spec,
        files_dir=files_dir,
    )


@pytest.mark.parametrize(
    ("image", "normalised", "split"),
    [
        ("nginx", "nginx:latest", ("nginx", "latest")),
        ("nginx:alpine", "nginx:alpine", ("nginx", "alpine")),
        ("host:5000/a/b", "host:5000/a/b:latest", ("host:5000/a/b", "latest")),
        ("host:5000/a/b:1", "host:5000/a/b:1", ("host:5000/a/b", "1")),
        ("a@sha256:00", "a@sha256:00", ("a", "sha256:00")),
        ("h:1/a:2@sha256:00", "h:1/a:2@sha256:00", ("h:1/a", "sha256:00")),
    ],
)
def test_image_names_get_the_tag_that_the_engine_would_assume(
    image: str, normalised: str, split: tuple[str, str]
) -> None:
    assert normalised_image(image) == normalised
    assert split_image(normalised) == split


def test_body_publishes_only_ports_that_were_asked_for() -> None:
    spec = ServiceSpec(
        name=ServiceName("web"),
        project=ProjectName("shop"),
        source=ContainerImage(image="web"),
        ports=(PortSpec(port=80), PortSpec(port=90, host_port=9000, host_ip="127.0.0.1")),
        networks=("default", "back", "default"),
        aliases=("front", "web"),
    )
    body = create_body(workload(spec), networks_of(spec), has_init=False)
    assert body["HostConfig"]["PortBindings"] == {"90/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9000"}]}
    assert body["HostConfig"]["Init"] is False
    assert body["HostConfig"]["NetworkMode"] == "orca-shop-default"
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"orca-shop-default": {"Aliases": ["web", "front"]}}
    assert body["Labels"]["orca.networks"] == "orca-shop-default,orca-shop-back"
    assert "Memory" not in body["HostConfig"]
    assert not {"Cmd", "Entrypoint", "User"} & set(body)


def test_people_count_copies_from_1() -> None:
    spec = ServiceSpec(name=ServiceName("web"), project=ProjectName("shop"), source=ContainerImage(image="web"))
    third = workload(spec)
    assert third.slot == 2
    assert container_name(third) == "orca-shop-web-3-abcdefghijkl"
    body = create_body(third, (), has_init=True)
    assert "ORCA_SLOT=3" in body["Env"]
    assert body["Labels"]["orca.slot"] == "3"


def test_body_has_mounts_of_every_kind_and_the_files() -> None:
    spec = ServiceSpec(
        name=ServiceName("db"),
        project=ProjectName("shop"),
        source=ContainerImage(image="db"),
        mounts=(
            MountSpec(target="/data", source="data"),
            MountSpec(target="/host", source="/srv", kind=MountKind.BIND, read_only=True),
            MountSpec(target="/tmp", kind=MountKind.TMPFS),
        ),
        files=(FileSpec(target="/etc/db.conf", content=BlobDigest("sha256:0")),),
    )
    mounts = create_body(workload(spec, "/files"), (), has_init=True)["HostConfig"]["Mounts"]
    assert [(mount["Type"], mount.get("Source"), mount["ReadOnly"]) for mount in mounts] == [
        ("volume", "orca-shop-data", False),
        ("bind", "/srv", True),
        ("tmpfs", None, False),
        ("bind", "/files/0", True),
    ]
    with pytest.raises(InvalidRequestError, match="not on this node"):
        create_body(workload(spec), (), has_init=True)


def test_wasm_module_is_no_container() -> None:
    spec = ServiceSpec(name=ServiceName("w"), source=WasmModule(module=BlobDigest("sha256:0")))
    with pytest.raises(InvalidRequestError, match="Wasm"):
        create_body(workload(spec), (), has_init=True)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T02:00:00.25+02:00", 250_000_000),
        ("1969-12-31T22:30:00-01:30", 0),
        ("0001-01-01T00:00:00Z", 0),
    ],
)
def test_times_keep_their_nanoseconds_and_zones(text: str, ns: int) -> None:
    assert time_ns(text) == ns


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8), st.integers(1, 20))
def test_frames_come_out_the_same_however_the_stream_is_cut(frames: list[tuple[int, bytes]], size: int) -> None:
    wire = b"".join(frame(stream, payload) for stream, payload in frames)
    reader, found = FrameReader(), list[tuple[LogStream, bytes]]()
    for start in range(0, len(wire), size):
        found += reader.feed(wire[start : start + size])
    streams = {1: LogStream.STDOUT, 2: LogStream.STDERR}
    assert found == [(streams[stream], payload) for stream, payload in frames]


def test_stream_that_is_not_framed_is_refused() -> None:
    with pytest.raises(ValueError, match="none that the engine makes"):
        FrameReader().feed(b"HTTP/1.1 500 Internal")


def test_character_that_is_cut_by_a_piece_of_a_long_line_stays_whole() -> None:
    wire = frame(1, b"2026-01-01T00:00:00.000000001Z aaa\xc3") + frame(1, b"2026-01-01T00:00:00.000000002Z \xa4b\n")
    assert [line.text for line in LogReader().feed(wire)] == ["aaa", "äb"]
    broken = frame(1, b"2026-01-01T00:00:00.000000001Z \xff\xc3\n") + frame(1, b"2026-01-01T00:00:01Z next\n")
    assert [line.text for line in LogReader().feed(broken)] == ["\ufffd\ufffd", "next"]


def test_log_reader_leaves_out_what_was_seen_before() -> None:
    wire = frame(1, b"1970-01-01T00:00:01Z old\n") + frame(2, b"1970-01-01T00:00:02Z new\n")
    reader = LogReader(after_ns=10**9)
    assert [(line.text, line.stream, line.at_ms) for line in reader.feed(wire)] == [("new", LogStream.STDERR, 2000)]
    assert reader.last_ns == 2 * 10**9


def test_json_lines_are_joined_over_chunks_and_bounded() -> None:
    reader = JsonLines()
    assert reader.feed(b'{"a": 1}\r\n{"b"') == [{"a": 1}]
    assert reader.feed(b": 2}\n\n") == [{"b": 2}]
    with pytest.raises(ValueError, match="more than"):
        reader.feed(b"x" * (2**20 + 1))
    with pytest.raises(ValueError, match="malformed"):
        JsonLines().feed(b"{no}\n")


def test_versions_are_agreed_on_within_what_both_speak() -> None:
    def api(reply: dict[str, object]) -> str:
        return read_version(reply).api_version

    assert api({"ApiVersion": "1.41", "MinAPIVersion": "1.12"}) == "1.41"
    assert api({"ApiVersion": "1.52", "MinAPIVersion": "1.24"}) == "1.44"
    assert api({"ApiVersion": "1.60", "MinAPIVersion": "1.50"}) == "1.50"
    with_init = {"ApiVersion": "1.41", "Components": [{"Name": "docker-init", "Version": "0.19.0"}]}
    without = {"ApiVersion": "1.41", "Components": [{"Name": "docker-init", "Version": "N/A"}]}
    assert (read_version(with_init).has_init, read_version(without).has_init) == (True, False)


def _inspected(status: str, **state: object) -> dict[str, object]:
    labels = {"orca.allocation": "a", "orca.service": "s/w", "orca.revision": "3", "orca.ports": "80/tcp,53/udp"}
    networks = {"orca-s-default": {"IPAddress": "172.18.0.2"}}
    return {
        "Config": {"Labels": {**labels, "orca.networks": "orca-s-default"}},
        "State": {"Status": status, "StartedAt": "0001-01-01T00:00:00Z", **state},
        "NetworkSettings": {"Networks": networks},
    }


def test_states_of_the_engine_are_ours() -> None:
    def state(status: str) -> InstanceState:
        return read_instance(_inspected(status)).state

    assert [state(s) for s in ("created", "running", "paused", "exited", "dead")] == [
        InstanceState.CREATED,
        InstanceState.RUNNING,
        InstanceState.RUNNING,
        InstanceState.EXITED,
        InstanceState.EXITED,
    ]
    killed = read_instance(_inspected("exited", ExitCode=137, OOMKilled=True))
    assert (killed.exit_code, killed.is_oom_killed, killed.detail) == (137, True, "out of memory")


def test_endpoints_are_the_ports_at_the_bridge_address_of_a_running_container() -> None:
    found = read_endpoints(_inspected("running"))
    assert [(end.port, end.host, end.host_port, end.protocol.value) for end in found] == [
        (80, "172.18.0.2", 80, "tcp"),
        (53, "172.18.0.2", 53, "udp"),
    ]
    assert read_endpoints(_inspected("exited")) == ()


def test_events_of_other_containers_are_none_of_ours() -> None:
    assert read_event({"Type": "network", "Action": "create"}) is None
    assert read_event({"Type": "container", "Action": "die", "Actor": {"ID": "x", "Attributes": {}}}) is None
    event = read_event(
        {
            "Type": "container",
            "Action": "die",
            "Actor": {"ID": "x", "Attributes": {"orca.allocation": "a", "exitCode": "3"}},
        }
    )
    assert event is not None
    assert (event.action, event.container, event.exit_code) == ("die", "x", 3)


def test_stats_leave_out_cache_and_survive_a_stopped_container() -> None:
    reply = {
        "cpu_stats": {"cpu_usage": {"total_usage": 5}},
        "memory_stats": {"usage": 100, "limit": 200, "stats": {"inactive_file": 30}},
        "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
        "pids_stats": {"current": 4},
    }
    stats = read_stats(AllocationId("a"), WallMs(7), reply)
    assert (stats.cpu_ns, stats.memory_bytes, stats.received_bytes, stats.sent_bytes) == (5, 70, 11, 22)
    assert read_stats(AllocationId("a"), WallMs(7), {"memory_stats": {}}).memory_bytes == 0


def test_pull_progress_sums_the_layers() -> None:
    state = PullState()
    down = {"status": "Downloading", "id": "a", "progressDetail": {"current": 10, "total": 100}}
    first = state.take(down)
    second = state.take({**down, "id": "b", "progressDetail": {"current": 5, "total": 50}})
    third = state.take({"status": "Download complete", "id": "a"})
    assert [(p.current, p.total) for p in (first, second, third) if p] == [(10, 100), (15, 150), (105, 150)]
    assert state.take({"status": "Waiting", "id": "c"}) is None


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (404, "No such container: abc", InstanceNotFoundError),
        (409, "can not get logs from container which is dead or marked for removal", InstanceNotFoundError),
        (404, "No such image: nginx:latest", ImageNotFoundError),
        (500, "driver failed: Bind for 0.0.0.0:8080 failed: port is already allocated", PortTakenError),
        (500, "listen tcp4 127.0.0.1:8080: bind: address already in use", PortTakenError),
        (500, "could not find an available, non-overlapping IPv4 address pool", RuntimeFailedError),
        (400, "OCI runtime create failed", RuntimeFailedError),
    ],
)
def test_refusals_become_our_errors(status: int, message: str, error: type[OrcaError]) -> None:
    made = as_error(EngineRefusedError(status, message), "start allocation a")
    assert type(made) is error
    assert "start allocation a" in made.message
    if error is PortTakenError:
        assert "8080" in made.message


def test_hints_of_image_errors_fit_their_cause() -> None:
    assert "docker login" in image_error("a:1", "pull access denied for a").hint
    assert "tag" in image_error("a:1", "manifest for a:1 not found").hint
    assert "network" in image_error("a:1", "dial tcp: lookup registry: no such host").hint
