"""The named volumes of projects: kept for ever, and each cluster's own."""

from functools import partial
from typing import TYPE_CHECKING

from node.runtime.docker.calls import Calls
from node.runtime.docker.refusals import EngineRefusedError, as_error
from node.runtime.docker.request import LABEL_CLUSTER, owner_labels, volume_name
from orca.errors import RuntimeFailedError
from orca.model.ids import ClusterId
from orca.model.spec import MountKind, ServiceSpec

if TYPE_CHECKING:
    import docker


class Volumes:
    """Makes the volumes that containers are about to mount."""

    def __init__(self, cluster: ClusterId, calls: Calls) -> None:
        self._cluster = cluster
        self._calls = calls

    async def ensure(self, spec: ServiceSpec) -> dict[str, str]:
        """Have the named volumes of `spec`, and what each is really called.

        A name that belongs to another cluster on the same engine is left alone: the volume is then
        called after this cluster too. One without our labels was made by a person, for us.
        Nothing is remembered between calls, because people remove volumes.
        """
        sources = dict.fromkeys(mount.source for mount in spec.mounts if mount.kind is MountKind.VOLUME)
        return {source: await self._ensure_one(spec, source) for source in sources}

    async def _ensure_one(self, spec: ServiceSpec, source: str) -> str:
        name = volume_name(spec.project, source)
        labels = owner_labels(self._cluster, spec.project)
        for candidate in (name, f"{name}-{self._cluster}"):
            try:
                owner = await self._calls.change(
                    "create_volume", f"volume {candidate}", partial(_create, candidate, labels)
                )
            except EngineRefusedError as refusal:
                raise as_error(refusal, f"make volume {candidate}") from refusal
            if owner in ("", str(self._cluster)):
                return candidate
        raise RuntimeFailedError(
            f"Docker could not make volume {name}: the name is taken by another cluster",
            hint=f"Look at it (`docker volume inspect {name}`), and name the volume of {spec.id} differently.",
        )


def _create(name: str, labels: dict[str, str], client: "docker.APIClient") -> str:
    """Make the volume `name` unless it is there, and the cluster that its labels name, empty without one."""
    made = client.create_volume(name, labels=labels)
    return str((made.get("Labels") or {}).get(LABEL_CLUSTER, ""))
