"""What the engine is asked to make for a workload: the body of one create call. Pure.

Field names are those of the Docker Engine API, "ContainerCreate".
"""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from node.runtime.base import Workload
from node.runtime.docker.refusals import require_user_labels
from orca.errors import InvalidRequestError
from orca.model.ids import ClusterId, NodeId, ProjectName
from orca.model.spec import ContainerImage, MountKind, MountSpec, ServiceSpec

LABEL_CLUSTER: Final = "orca.cluster"
LABEL_NODE: Final = "orca.node"
LABEL_ALLOCATION: Final = "orca.allocation"
LABEL_SERVICE: Final = "orca.service"
LABEL_REVISION: Final = "orca.revision"
LABEL_TEMPLATE: Final = "orca.spec-hash"
LABEL_SLOT: Final = "orca.slot"
LABEL_PORTS: Final = "orca.ports"
LABEL_NETWORKS: Final = "orca.networks"
LABEL_PROJECT: Final = "orca.project"
LABEL_FENCE: Final = "orca.fence"

_TAGGED: Final = re.compile(r":[^/]+$")


def normalised_image(image: str) -> str:
    """`image` with the tag that the engine would assume: `nginx` is `nginx:latest`."""
    if "@" in image or _TAGGED.search(image):
        return image
    return f"{image}:latest"


def split_image(image: str) -> tuple[str, str]:
    """The repository and the tag or digest of a normalised name."""
    if "@" in image:
        repository, _, digest = image.partition("@")
        return _TAGGED.sub("", repository), digest
    repository, _, tag = image.rpartition(":")
    return repository, tag


def network_name(project: ProjectName, network: str) -> str:
    """The engine's name of a network of a project."""
    return f"orca-{project}-{network}"


def volume_name(project: ProjectName, volume: str) -> str:
    """The engine's name of a named volume of a project."""
    return f"orca-{project}-{volume}"


def container_name(workload: Workload) -> str:
    """A name for people, who count copies from 1; nothing is recognised by it."""
    return f"orca-{workload.spec.project}-{workload.spec.name}-{workload.slot + 1}-{workload.allocation}"


def networks_of(spec: ServiceSpec) -> tuple[str, ...]:
    """The engine's names of the spec's networks, each once, in its order."""
    return tuple(dict.fromkeys(network_name(spec.project, network) for network in spec.networks))


def owner_labels(cluster: ClusterId, project: ProjectName) -> dict[str, str]:
    """The labels of networks and volumes, which belong to a project of a cluster."""
    return {LABEL_CLUSTER: str(cluster), LABEL_PROJECT: str(project)}


def instance_filter(cluster: ClusterId, node: NodeId) -> list[str]:
    """The label filter that finds exactly this node's containers."""
    return [f"{LABEL_CLUSTER}={cluster}", f"{LABEL_NODE}={node}", LABEL_ALLOCATION]


def endpoint_body(spec: ServiceSpec) -> dict[str, Any]:
    """How a copy joins a network: every copy has the service's name, so DNS answers with all of them."""
    return {"Aliases": list(dict.fromkeys((str(spec.name), *spec.aliases)))}


def create_body(
    workload: Workload, networks: tuple[str, ...], volumes: Mapping[str, str] = MappingProxyType({}), *, has_init: bool
) -> dict[str, Any]:
    """The body of the create call; `networks` and `volumes` are the engine's names of those of the spec.

    A volume that is not in `volumes` has the name that it has without another cluster on the engine.

    Only the first network is in it: engines before API 1.44 take just one, the others
    are connected afterwards. Raises InvalidRequestError for what no container can be.
    """
    spec = workload.spec
    source = spec.source
    if not isinstance(source, ContainerImage):
        raise InvalidRequestError(f"{workload.service} is a Wasm module; Docker runs container images")
    body: dict[str, Any] = {
        "Image": normalised_image(source.image),
        "Env": [f"{key}={value}" for key, value in workload.environment.items()],
        "Labels": _labels(workload, networks),
        "ExposedPorts": {f"{port.port}/{port.protocol.value}": {} for port in spec.ports},
        # An image's own HEALTHCHECK would cost an exec every time; the node probes by itself.
        "Healthcheck": {"Test": ["NONE"]},
        "StopTimeout": math.ceil(spec.stop_timeout_s),
        "HostConfig": _host_config(workload, source, networks, volumes, has_init=has_init),
        "NetworkingConfig": {"EndpointsConfig": {networks[0]: endpoint_body(spec)} if networks else {}},
    }
    optional = {
        "Cmd": None if source.command is None else list(source.command),
        "Entrypoint": None if source.entrypoint is None else list(source.entrypoint),
        "User": source.user,
        "WorkingDir": source.working_dir,
        "Hostname": source.hostname,
        "StopSignal": source.stop_signal,
    }
    body.update({key: value for key, value in optional.items() if value is not None})
    return body


def _labels(workload: Workload, networks: tuple[str, ...]) -> dict[str, str]:
    spec = workload.spec
    require_user_labels(spec.labels)
    return {
        **spec.labels,
        LABEL_CLUSTER: str(workload.cluster),
        LABEL_NODE: str(workload.node),
        LABEL_ALLOCATION: str(workload.allocation),
        LABEL_SERVICE: str(workload.service),
        LABEL_REVISION: str(workload.revision),
        LABEL_TEMPLATE: workload.template,
        LABEL_SLOT: str(workload.slot + 1),
        LABEL_PROJECT: str(spec.project),
        # Kept with the container, so that an adopted one can be reached without its spec.
        LABEL_PORTS: ",".join(f"{port.port}/{port.protocol.value}" for port in spec.ports),
        LABEL_NETWORKS: ",".join(networks),
        **({} if workload.fence is None else {LABEL_FENCE: str(workload.fence)}),
    }


def _host_config(
    workload: Workload,
    source: ContainerImage,
    networks: tuple[str, ...],
    volumes: Mapping[str, str],
    *,
    has_init: bool,
) -> dict[str, Any]:
    spec, resources = workload.spec, workload.spec.resources
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        if port.host_port is not None:
            binding = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
            bindings.setdefault(f"{port.port}/{port.protocol.value}", []).append(binding)
    config: dict[str, Any] = {
        "NetworkMode": networks[0] if networks else "none",
        "PortBindings": bindings,
        "RestartPolicy": {"Name": "no"},
        "Mounts": _mounts(workload, volumes),
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(int(spec.log.file_bytes_max)), "max-file": str(spec.log.files_max)},
        },
        "Privileged": source.privileged,
        "ReadonlyRootfs": source.read_only,
        "CapAdd": list(source.cap_add),
        "CapDrop": list(source.cap_drop),
        "Ulimits": [{"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in source.ulimits],
        "ExtraHosts": list(source.extra_hosts),
        "Init": source.init and has_init,
    }
    if resources.cpu_milli is not None:
        config["NanoCpus"] = int(resources.cpu_milli) * 1_000_000
    if resources.memory_bytes is not None:
        # Without a swap limit the engine would allow as much again in swap.
        config["Memory"] = config["MemorySwap"] = int(resources.memory_bytes)
    if resources.pids_max is not None:
        config["PidsLimit"] = resources.pids_max
    if source.shm_bytes is not None:
        config["ShmSize"] = int(source.shm_bytes)
    return config


def _mounts(workload: Workload, volumes: Mapping[str, str]) -> list[dict[str, Any]]:
    mounts = [_mount(workload, mount, volumes) for mount in workload.spec.mounts]
    if workload.spec.files and not workload.files_dir:
        raise InvalidRequestError(f"{workload.service} has files, but they are not on this node")
    for index, file in enumerate(workload.spec.files):
        source = f"{workload.files_dir}/{index}"
        mounts.append({"Type": "bind", "Source": source, "Target": file.target, "ReadOnly": True})
    return mounts


def _mount(workload: Workload, mount: MountSpec, volumes: Mapping[str, str]) -> dict[str, Any]:
    body: dict[str, Any] = {"Type": mount.kind.value, "Target": mount.target, "ReadOnly": mount.read_only}
    match mount.kind:
        case MountKind.VOLUME:
            body["Source"] = volumes.get(mount.source, volume_name(workload.spec.project, mount.source))
            body["VolumeOptions"] = {"Labels": owner_labels(workload.cluster, workload.spec.project)}
        case MountKind.BIND:
            body["Source"] = mount.source
        case MountKind.TMPFS:
            body["TmpfsOptions"] = {} if mount.size_bytes is None else {"SizeBytes": int(mount.size_bytes)}
    return body
