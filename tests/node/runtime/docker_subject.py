"""Makes Docker runtimes and workloads for tests, in a project and cluster of their own."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from node.runtime.base import Workload
from node.runtime.docker import DockerLimits, DockerRuntime
from orca.errors import ImageNotFoundError, RuntimeFailedError
from orca.model.ids import AllocationId, ClusterId, NodeId, ProjectName, ServiceName, SpecRevision
from orca.model.spec import ContainerImage, PortSpec, ServiceSpec
from orca.model.units import Instant, WallMs
from tests.images import WEB_IMAGE, remove_by_label


class RealClock:
    """The clocks of this computer."""

    def now(self) -> Instant:
        return Instant(time.monotonic())

    def wall(self) -> WallMs:
        return WallMs(int(time.time() * 1000))


class DockerSubject:
    """A `tests.contracts.runtime.Subject` on a real engine."""

    has_exec = True
    has_adoption = True
    answers_http = True

    def __init__(self, base_url: str | None = None) -> None:
        tail = secrets.token_hex(4)
        self.cluster = ClusterId(f"c-{tail}")
        self.node = NodeId(f"n-{tail}")
        self.project = ProjectName(f"t{tail}")
        self.base_url = base_url

    def make(self, *, limits: DockerLimits | None = None) -> DockerRuntime:
        return DockerRuntime(self.cluster, self.node, RealClock(), base_url=self.base_url, limits=limits)

    def workload(self, *, source: dict[str, Any] | None = None, **fields: Any) -> Workload:
        """A copy of a service `web` with parts of its spec replaced; of its image with `source`."""
        image = msgspec.structs.replace(ContainerImage(image=WEB_IMAGE), **(source or {}))
        settings = {"name": ServiceName("web"), "stop_timeout_s": 5.0, **fields}
        spec = ServiceSpec(source=image, project=self.project, **settings)
        return Workload(
            allocation=AllocationId(secrets.token_hex(6)),
            service=spec.id,
            revision=SpecRevision(3),
            template="0123abcd",
            slot=1,
            cluster=self.cluster,
            node=self.node,
            spec=spec,
        )

    def shell(self, script: str, **fields: Any) -> Workload:
        """A copy that runs a shell script."""
        return self.workload(source={"command": ("sh", "-c", script)}, **fields)

    def serving(self) -> Workload:
        return self.workload(ports=(PortSpec(port=8080),))

    def exiting(self, exit_code: int) -> Workload:
        return self.shell(f"exit {exit_code}")

    def printing(self, lines: tuple[str, ...]) -> Workload:
        return self.shell('echo "$LINES_TO_PRINT"; echo last >&2', env={"LINES_TO_PRINT": "\n".join(lines)})

    def crashing(self) -> Workload:
        return self.shell("kill -SEGV $$")

    def unpreparable(self) -> tuple[Workload, type[RuntimeFailedError]]:
        return self.workload(source={"image": "127.0.0.1:1/nobody/nothing:9"}), ImageNotFoundError


@contextmanager
def docker_subject(base_url: str | None = None) -> Iterator[DockerSubject]:
    """A subject whose containers, networks and volumes are removed in the end."""
    subject = DockerSubject(base_url)
    try:
        yield subject
    finally:
        remove_by_label(f"orca.cluster={subject.cluster}", host=base_url or "")
