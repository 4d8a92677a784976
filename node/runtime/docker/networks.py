"""The networks of projects: made when first needed, removed with their last container."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from node.runtime.docker.calls import Calls
from node.runtime.docker.refusals import EngineRefusedError, as_error
from node.runtime.docker.request import owner_labels
from orca.errors import OrcaError, RuntimeFailedError
from orca.model.ids import ClusterId, ProjectName

if TYPE_CHECKING:
    import docker

ATTEMPTS_MAX: Final = 3
DETACH_PAUSE_S: Final = 0.5


class Networks:
    """The networks that this node's containers are on.

    `users` counts the known containers of each; a network with a creation under way
    counts one more, so that it is not removed just before it is needed.
    """

    def __init__(self, cluster: ClusterId, calls: Calls) -> None:
        self._cluster = cluster
        self._calls = calls
        self._known: dict[str, str] = {}
        self.users: Counter[str] = Counter()

    def forget(self) -> None:
        """Somebody may have changed the networks: look again before the next use."""
        self._known.clear()

    @asynccontextmanager
    async def in_use(self, names: tuple[str, ...]) -> AsyncGenerator[None, None]:
        """Inside the block none of `names` is removed by this node; after one that failed, what nobody uses is."""
        self.users.update(names)
        try:
            yield
        except OrcaError:
            self.users.subtract(names)
            await self.remove_unused(names)
            raise
        except BaseException:
            self.users.subtract(names)
            raise
        self.users.subtract(names)

    async def ensure(self, project: ProjectName, names: tuple[str, ...]) -> tuple[str, ...]:
        """Have the bridges `names`, and what they are really called.

        Any number of calls and of nodes may do so at once. A name that belongs to
        another cluster on the same engine, or to somebody else, is left alone: the
        network is then called after this cluster too.
        """
        for name in names:
            if name not in self._known:
                self._known[name] = await self._ensure_one(project, name)
        return tuple(self._known.get(name, name) for name in names)

    async def _ensure_one(self, project: ProjectName, name: str) -> str:
        labels = owner_labels(self._cluster, project)
        for candidate in (name, f"{name}-{self._cluster}"):
            for _ in range(ATTEMPTS_MAX):
                # Creations of one name take turns here; between nodes the engine's refusal decides.
                owner = await self._create(candidate, labels)
                if owner == labels:
                    return candidate
                if owner is not None:
                    break
        raise RuntimeFailedError(
            f"Docker could not make network {name}: the name is taken by something that is not of this cluster",
            hint=f"Rename or remove it (`docker network rm {name}`).",
        )

    async def _create(self, name: str, labels: dict[str, str]) -> dict[str, str] | None:
        """The owner labels of the network `name`, made if it was not there; None if it went away meanwhile."""

        def call(client: "docker.APIClient") -> dict[str, str] | None:
            for network in client.networks(names=[name]):
                if network.get("Name") == name:
                    found = network.get("Labels") or {}
                    return {key: found[key] for key in labels if key in found}
            client.create_network(name, driver="bridge", check_duplicate=True, labels=labels)
            return labels

        try:
            return await self._calls.change("create_network", f"network {name}", call)
        except EngineRefusedError as refusal:
            if refusal.is_name_conflict():
                return None
            raise as_error(refusal, f"make network {name}") from refusal

    async def remove_unused(self, names: tuple[str, ...]) -> None:
        """Remove those of `names` that no container is on, as far as the engine lets us."""
        for name in names:
            for _ in range(ATTEMPTS_MAX):
                if self.users[name] > 0 or await self._remove(name):
                    break
                await trio.sleep(DETACH_PAUSE_S)

    async def _remove(self, name: str) -> bool:
        """Remove it; False when a container that is about to be gone still has an end in it."""
        del self.users[name]
        self._known = {base: real for base, real in self._known.items() if real != name}
        try:
            await self._calls.end("remove_network", f"network {name}", partial(_remove, name))
        except EngineRefusedError as refusal:
            # Another node's containers are on it, or it is gone: both are as they should be.
            return not refusal.is_network_in_use()
        except OrcaError:
            return True  # the engine went away; what is unused then is found by the next removal
        return True


def _remove(name: str, client: "docker.APIClient") -> None:
    # The engine would remove a network under a stopped container, which then could not start again.
    if not client.containers(quiet=True, all=True, filters={"network": [name]}):
        client.remove_network(name)
