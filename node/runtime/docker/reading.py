"""The engine's JSON, read into our own values. Pure.

Field names are those of the Docker Engine API: "ContainerList", "ContainerInspect",
"SystemVersion", "SystemEvents", "ContainerStats", "ImageCreate", "ImageBuild".
"""

import datetime
from typing import Any, Final

import msgspec

from node.runtime.base import Instance, InstanceState, InstanceStats
from node.runtime.docker.request import (
    LABEL_ALLOCATION,
    LABEL_FENCE,
    LABEL_NETWORKS,
    LABEL_PORTS,
    LABEL_REVISION,
    LABEL_SERVICE,
    LABEL_TEMPLATE,
)
from orca.model.allocation import Endpoint, PrepareProgress
from orca.model.ids import AllocationId, LeaseEpoch, ServiceId, SpecRevision
from orca.model.spec import Protocol
from orca.model.units import WallMs

OUT_OF_MEMORY: Final = "out of memory"
API_VERSION_MAX: Final = (1, 44)
"""The newest API whose shapes this package was written for."""

_RUNNING: Final = frozenset({"running", "paused", "restarting"})
_EXITED: Final = frozenset({"exited", "dead", "removing"})
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class EngineVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine says of itself.

    `init_binary` is the program it puts in front of a container's command, and
    `has_init` whether it found that program.
    """

    version: str
    api_version: str
    has_init: bool
    init_binary: str = "docker-init"


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One container of a listing."""

    container: str
    allocation: AllocationId
    is_running: bool
    networks: tuple[str, ...]


class EngineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a container of ours."""

    action: str
    container: str
    allocation: AllocationId
    networks: tuple[str, ...] = ()
    exit_code: int = 0


def read_version(reply: dict[str, Any]) -> EngineVersion:
    """The engine's version, and the API version to speak with it."""
    spoken = min(_number(reply.get("ApiVersion", "1.41")), API_VERSION_MAX)
    lowest = _number(reply.get("MinAPIVersion") or "1.12")
    api = max(spoken, lowest)
    inits = [part for part in reply.get("Components") or () if part.get("Name") == "docker-init"]
    return EngineVersion(
        version=str(reply.get("Version", "")),
        api_version=f"{api[0]}.{api[1]}",
        has_init=bool(inits) and inits[0].get("Version") != "N/A",
    )


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)


def time_ns(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; 0 for the engine's "never"."""
    if text.startswith("0001-"):
        return 0
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Z").partition("+")[0].partition("-")[0]
    moment = datetime.datetime.fromisoformat(whole.rstrip("Z")[:19]).replace(tzinfo=datetime.UTC)
    zone = _zone_s(text[19:])
    seconds = int((moment - _EPOCH).total_seconds()) - zone
    return seconds * 10**9 + (int(digits.ljust(9, "0")[:9]) if digits else 0)


def _zone_s(rest: str) -> int:
    sign = 1 if "+" in rest else -1
    _, mark, zone = rest.partition("+" if sign > 0 else "-")
    if not mark:
        return 0
    hours, _, minutes = zone.partition(":")
    return sign * (int(hours) * 3600 + int(minutes or 0) * 60)


def read_listing(reply: list[dict[str, Any]]) -> tuple[Listed, ...]:
    """The containers of a listing that carry an allocation."""
    return tuple(
        Listed(
            container=str(entry["Id"]),
            allocation=AllocationId(entry["Labels"][LABEL_ALLOCATION]),
            is_running=entry.get("State") in _RUNNING,
            networks=_split(entry["Labels"].get(LABEL_NETWORKS, "")),
        )
        for entry in reply
        if LABEL_ALLOCATION in (entry.get("Labels") or {})
    )


def read_instance(reply: dict[str, Any]) -> Instance:
    """An inspected container as an instance."""
    labels, state = reply["Config"]["Labels"], reply["State"]
    status = state.get("Status", "")
    shown = (
        InstanceState.RUNNING
        if status in _RUNNING
        else InstanceState.EXITED
        if status in _EXITED
        else InstanceState.CREATED
    )
    started_ns = time_ns(state.get("StartedAt") or "0001-")
    is_oom_killed = bool(state.get("OOMKilled")) and shown is InstanceState.EXITED
    revision, fence = labels.get(LABEL_REVISION, ""), labels.get(LABEL_FENCE, "")
    return Instance(
        allocation=AllocationId(labels[LABEL_ALLOCATION]),
        service=ServiceId(labels.get(LABEL_SERVICE, "")),
        revision=SpecRevision(int(revision) if revision.isdigit() else 0),
        template=labels.get(LABEL_TEMPLATE, ""),
        state=shown,
        started_at_ms=WallMs(started_ns // 10**6) if started_ns else None,
        exit_code=int(state.get("ExitCode", 0)) if shown is InstanceState.EXITED else None,
        is_oom_killed=is_oom_killed,
        detail=OUT_OF_MEMORY if is_oom_killed else str(state.get("Error") or ""),
        fence=LeaseEpoch(int(fence)) if fence.isdigit() else None,
    )


def read_endpoints(reply: dict[str, Any]) -> tuple[Endpoint, ...]:
    """Where the ports of a running container are reached: its address on its first network."""
    if reply["State"].get("Status") not in _RUNNING:
        return ()
    labels = reply["Config"]["Labels"]
    joined = reply["NetworkSettings"].get("Networks") or {}
    first = (*_split(labels.get(LABEL_NETWORKS, "")), *sorted(joined))
    addresses = [joined[name].get("IPAddress") for name in first if name in joined]
    host = next((address for address in addresses if address), None)
    if host is None:
        return ()
    ports = [port.partition("/") for port in _split(labels.get(LABEL_PORTS, ""))]
    return tuple(
        Endpoint(port=int(port), host=host, host_port=int(port), protocol=Protocol(protocol))
        for port, _, protocol in ports
    )


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def read_event(reply: dict[str, Any]) -> EngineEvent | None:
    """A container event, or None if it is of no container of ours."""
    actor = reply.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    if reply.get("Type") != "container" or LABEL_ALLOCATION not in attributes:
        return None
    code = str(attributes.get("exitCode", "0"))
    return EngineEvent(
        action=str(reply.get("Action", "")),
        container=str(actor.get("ID", "")),
        allocation=AllocationId(attributes[LABEL_ALLOCATION]),
        networks=_split(attributes.get(LABEL_NETWORKS, "")),
        exit_code=int(code) if code.isdigit() else 0,
    )


def read_stats(allocation: AllocationId, at_ms: WallMs, reply: dict[str, Any]) -> InstanceStats:
    """One measurement. Page cache that the kernel would give back is not counted as used."""
    memory = reply.get("memory_stats") or {}
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))  # cgroup v1, else v2
    usage = int(memory.get("usage") or 0)
    networks = (reply.get("networks") or {}).values()
    return InstanceStats(
        allocation=allocation,
        at_ms=at_ms,
        cpu_ns=int(((reply.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage") or 0),
        memory_bytes=usage - int(cache) if cache < usage else usage,
        memory_bytes_max=int(memory.get("limit") or 0),
        received_bytes=sum(int(network.get("rx_bytes") or 0) for network in networks),
        sent_bytes=sum(int(network.get("tx_bytes") or 0) for network in networks),
        processes=int((reply.get("pids_stats") or {}).get("current") or 0),
    )


class PullState:
    """Sums the progress of an image's layers."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def take(self, line: dict[str, Any]) -> PrepareProgress | None:
        """What a line of the pull says in sum, or None if it changes nothing."""
        detail, layer = line.get("progressDetail") or {}, str(line.get("id", ""))
        status = str(line.get("status", ""))
        _, known = self._layers.get(layer, (0, 0))
        if status == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail.get("current", 0)), int(detail["total"]))
        elif status in ("Download complete", "Pull complete") and known:
            self._layers[layer] = (known, known)
        elif status == "Extracting":
            return self._sum("extracting")
        else:
            return None
        return self._sum("pulling")

    def _sum(self, step: str) -> PrepareProgress:
        current = sum(done for done, _ in self._layers.values())
        return PrepareProgress(step=step, current=current, total=sum(total for _, total in self._layers.values()))
