"""The runtimes of a node, made as its settings ask for."""

from pathlib import Path
from typing import TYPE_CHECKING

from node.runtime.base import Runtime
from node.runtime.wasm.driver import WasmRuntime
from node.store.blobs import BlobStore
from node.store.identity import Identity
from orca.config import NodeConfig
from orca.model.spec import RuntimeKind
from orca.sources import Clock

if TYPE_CHECKING:
    from node.runtime.docker import DockerRuntime


def make_docker(config: NodeConfig, identity: Identity, clock: Clock) -> "DockerRuntime | None":
    """The driver of the engine, None when it is switched off; imported only when it is used."""
    if not config.docker:
        return None
    from node.runtime.docker import DockerRuntime

    return DockerRuntime(identity.cluster, identity.node, clock, base_url=config.docker_url or None)


def make_runtimes(
    identity: Identity, clock: Clock, data_path: Path, blobs: BlobStore, docker: "DockerRuntime | None"
) -> dict[RuntimeKind, Runtime]:
    """All runtimes of the node by their kind."""
    wasm = WasmRuntime(
        identity.cluster,
        identity.node,
        clock,
        cache_dir=data_path / "wasm",
        read_blob=blobs.path,
        volumes_dir=data_path / "volumes",
    )
    runtimes: dict[RuntimeKind, Runtime] = {RuntimeKind.WASM: wasm}
    if docker is not None:
        runtimes[RuntimeKind.DOCKER] = docker
    return runtimes
