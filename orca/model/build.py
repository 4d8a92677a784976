"""An image that must be built before the service that uses it can run."""

import msgspec

from orca.model.ids import ServiceId


class BuildSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the image of `service` is made.

    `image` is the tag to produce, the same that the service's `ContainerImage` names.
    `context` is the directory sent to the engine (absolute when the file's own directory
    is known, else as written, relative to that file); `dockerfile` is relative to it.
    `target` names a stage, None the last one.
    """

    service: ServiceId
    image: str
    context: str
    dockerfile: str = "Dockerfile"
    args: dict[str, str] = {}
    target: str | None = None
