"""A container engine in virtual time: it outlives the node's process, and its containers do as their images say.

An image is a word for how its containers behave, with a version behind the colon: `good:3`. A power cut ends all of
them; a crash of the node's process ends none.
"""

import enum
from collections.abc import Callable
from typing import Final

import msgspec

from node.reconciler.events import Assignment
from node.runtime.base import (
    Instance,
    InstanceExited,
    InstanceStarted,
    InstanceState,
    RuntimeEvent,
    RuntimeStateChanged,
)
from orca.model.allocation import Endpoint
from orca.model.ids import AllocationId, NodeId
from orca.model.node import RuntimeState
from orca.model.spec import ContainerImage, RuntimeKind
from orca.model.units import WallMs
from simulations.world import World

BOOT_S: Final = 0.4
"""Mean seconds from the start of a good container until it answers; one that nobody asks how it is answers at once."""
SIGKILL: Final = 137


class Image(enum.Enum):
    """How the containers of an image behave."""

    GOOD = "good"
    SICK = "sick"
    """It runs and never answers."""
    CRASHING = "crashing"
    """It ends soon after it started."""
    MISSING = "missing"
    """It cannot be pulled."""


class Container(msgspec.Struct, kw_only=True):
    """One container. `answers_from`: since when it answers, in seconds of the world."""

    assignment: Assignment
    image: Image
    state: InstanceState
    run: int = 0
    started_at_ms: WallMs | None = None
    answers_from: float = float("inf")
    exit_code: int | None = None

    @property
    def allocation(self) -> AllocationId:
        """Whose it is."""
        return self.assignment.allocation.id

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.state is InstanceState.RUNNING


def image_of(assignment: Assignment) -> Image:
    """What kind of image a copy runs."""
    source = assignment.spec.source
    assert isinstance(source, ContainerImage), "only containers run here"
    return Image(source.image.partition(":")[0])


class Engine:
    """The engine of one computer. `publish` is the node's ear; nobody listens while its process is down.

    `watch(word, container)` hears of every container: `started`, `stopped` when it was told to end, `died`.
    """

    def __init__(
        self, node: NodeId, world: World, wall: Callable[[], WallMs], watch: Callable[[str, Container], None]
    ) -> None:
        self.containers: dict[AllocationId, Container] = {}
        self.is_available = True
        self.publish: Callable[[RuntimeEvent], None] | None = None
        self._node = node
        self._world = world
        self._wall = wall
        self._watch = watch
        self._chance = world.chance(f"{node}/engine")

    # ------------------------------------------------------------------------ what the node asks for

    def create(self, assignment: Assignment) -> None:
        """Make the container, unless it is there."""
        allocation = assignment.allocation.id
        if allocation not in self.containers:
            self.containers[allocation] = Container(
                assignment=assignment, image=image_of(assignment), state=InstanceState.CREATED
            )

    def start(self, allocation: AllocationId) -> bool:
        """Run it; False when there is none. Nothing happens to one that runs."""
        container = self.containers.get(allocation)
        if container is None:
            return False
        if not container.is_running:
            container.state, container.exit_code = InstanceState.RUNNING, None
            container.run += 1
            container.started_at_ms = self._wall()
            container.answers_from = float("inf")
            if container.image is Image.GOOD:
                boot_s = self._chance.pause_s(BOOT_S)
                is_asked = container.assignment.spec.readiness is not None
                container.answers_from = self._world.now + (boot_s if is_asked else 0.0)
            elif container.image is Image.CRASHING:
                run = container.run
                self._world.after(self._chance.uniform(0.05, 1.0), lambda: self._end_run(container, run))
            self._world.note(f"{self._node} runs {allocation}")
            self._watch("started", container)
            self._tell(InstanceStarted(allocation=allocation))
        return True

    def stop(self, allocation: AllocationId) -> bool:
        """End it; False when there is none."""
        container = self.containers.get(allocation)
        if container is not None and container.is_running:
            self._end(container, 0, "stopped")
        return container is not None

    def remove(self, allocation: AllocationId) -> None:
        """Forget it."""
        self.containers.pop(allocation, None)

    def endpoints(self, allocation: AllocationId) -> tuple[Endpoint, ...]:
        """Where it is reached."""
        spec = self.containers[allocation].assignment.spec
        return tuple(Endpoint(port=one.port, host="127.0.0.1", host_port=one.port) for one in spec.ports)

    def instances(self) -> tuple[Instance, ...]:
        """All that there are."""
        found = []
        for container in self.containers.values():
            allocation = container.assignment.allocation
            found.append(
                Instance(
                    allocation=allocation.id,
                    service=allocation.service,
                    revision=allocation.revision,
                    template=allocation.template,
                    state=container.state,
                    started_at_ms=container.started_at_ms,
                    exit_code=container.exit_code,
                )
            )
        return tuple(found)

    # ------------------------------------------------------------------------ what happens

    def answers(self, allocation: AllocationId) -> bool:
        """Whether whoever asks it now gets a good answer."""
        container = self.containers.get(allocation)
        return container is not None and container.is_running and container.answers_from <= self._world.now

    def is_running(self, allocation: AllocationId) -> bool:
        """Whether its process lives."""
        container = self.containers.get(allocation)
        return container is not None and container.is_running

    def kill(self, allocation: AllocationId) -> None:
        """Its process dies."""
        container = self.containers.get(allocation)
        if container is not None and container.is_running:
            self._end(container, SIGKILL, "died")

    def power_off(self) -> None:
        """All of them end, and nobody is told."""
        self.publish = None
        for container in self.containers.values():
            if container.is_running:
                self._end(container, SIGKILL, "died")

    def set_available(self, *, is_available: bool) -> None:
        """The engine stops answering, or does again; its containers go on."""
        if self.is_available != is_available:
            self.is_available = is_available
            self._world.note(f"the engine of {self._node} is {'back' if is_available else 'away'}")
            self._tell(RuntimeStateChanged(state=self.runtime_state()))

    def runtime_state(self) -> RuntimeState:
        """What it says of itself."""
        reason = "" if self.is_available else "it does not answer"
        return RuntimeState(kind=RuntimeKind.DOCKER, is_available=self.is_available, version="1", reason=reason)

    def _end_run(self, container: Container, run: int) -> None:
        if container.is_running and container.run == run and self.containers.get(container.allocation) is container:
            self._end(container, 1, "died")

    def _end(self, container: Container, exit_code: int, word: str) -> None:
        container.state, container.exit_code = InstanceState.EXITED, exit_code
        self._world.note(f"{container.allocation} on {self._node} {word}")
        self._watch(word, container)
        self._tell(InstanceExited(allocation=container.allocation, exit_code=exit_code))

    def _tell(self, event: RuntimeEvent) -> None:
        if self.publish is not None and (self.is_available or isinstance(event, RuntimeStateChanged)):
            self.publish(event)
