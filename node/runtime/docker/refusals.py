"""The engine's refusals, and which of our errors each one is. Pure."""

import re
from typing import Final

from node.runtime.docker.logins import Login
from orca.errors import (
    ImageNotFoundError,
    InstanceNotFoundError,
    InvalidRequestError,
    OrcaError,
    PortTakenError,
    RuntimeFailedError,
)

_PORT_TAKEN: Final = re.compile(
    r"port is already allocated|address already in use|ports are not available|port is already in use", re.IGNORECASE
)
_BIND: Final = re.compile(r"(?:Bind for|listen \w+|exposing port \w+) ([0-9a-f.:\[\]]+:\d+)", re.IGNORECASE)
_NO_POOL: Final = re.compile(r"non-overlapping IPv4 address pool", re.IGNORECASE)
_NETWORK_GONE: Final = re.compile(r"network \S+ not found", re.IGNORECASE)


class EngineRefusedError(Exception):
    """The engine answered with an error; `message` is its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message.strip() or f"HTTP status {status} without a message"

    def is_missing_container(self) -> bool:
        """Whether it says that there is no such container."""
        return self.status == 404 and "no such container" in self.message.lower()

    def is_going_container(self) -> bool:
        """Whether it says that the container is being removed, or could not be removed whole."""
        return "dead or marked for removal" in self.message

    def is_missing_image(self) -> bool:
        """Whether it says that there is no such image."""
        return self.status == 404 and "no such image" in self.message.lower()

    def is_name_conflict(self) -> bool:
        """Whether a container or network of that name is there already."""
        return self.status == 409 and ("already in use by" in self.message or "already exists" in self.message)

    def is_missing_network(self) -> bool:
        """Whether a network that the container needs is gone."""
        return _NETWORK_GONE.search(self.message) is not None

    def is_network_in_use(self) -> bool:
        """Whether a network may not be removed because a container is still attached to it."""
        return "active endpoints" in self.message

    def is_missing_init(self, init_binary: str) -> bool:
        """Whether the engine has no init to put in front of the container's command."""
        return f'exec: "{init_binary}": executable file not found' in self.message


def as_error(refusal: EngineRefusedError, task: str) -> OrcaError:
    """The error of our tree for `refusal` of `task` ("start allocation a1 of shop/web")."""
    words = f"Docker could not {task}: {refusal.message}"
    if refusal.is_missing_container() or refusal.is_going_container():
        return InstanceNotFoundError(f"Docker could not {task}: its container is not there (any more)")
    if _PORT_TAKEN.search(refusal.message):
        found = _BIND.search(refusal.message)
        where = f"host port {found[1]}" if found else "a host port that it publishes"
        hint = "Publish another `host_port`, or end what listens there (`ss -ltnp` shows it)."
        return PortTakenError(f"Docker could not {task}: {where} is in use on this node", hint=hint)
    if refusal.is_missing_image():
        return ImageNotFoundError(words, hint="Pull, build or load the image on this node first.")
    if _NO_POOL.search(refusal.message):
        hint = "Remove unused networks (`docker network prune`) or widen `default-address-pools` of the engine."
        return RuntimeFailedError(words, hint=hint)
    return RuntimeFailedError(words)


def image_error(image: str, message: str, login: Login | None = None) -> ImageNotFoundError:
    """The error for an image that could not be fetched, with the engine's words and what `login` was tried."""
    lowered = message.lower()
    if any(mark in lowered for mark in ("denied", "unauthorized", "authentication required", "no basic auth")):
        registry = "" if login is None else f" {login.registry}"
        hint = f"Check the name; for a private registry run `docker login{registry}` as the user that runs the node."
        if login is not None:
            message = f"{message} ({login.words()})"
    elif any(mark in lowered for mark in ("not found", "manifest unknown", "no such image")):
        hint = "Check the name and the tag."
    else:
        hint = "Its registry was not reached; check the network, or load the image on this node."
    return ImageNotFoundError(f"image {image} could not be fetched: {message}", hint=hint)


def require_user_labels(labels: dict[str, str]) -> None:
    """Raise InvalidRequestError if a label of the spec takes a reserved name."""
    taken = sorted(label for label in labels if label.startswith("orca."))
    if taken:
        raise InvalidRequestError(f"labels {', '.join(taken)}: names that begin with `orca.` are reserved")
