"""How series are named: `<figure> <subject>`. Pure."""

from typing import Final

import msgspec

from orca.model.ids import AllocationId, ServiceId, display_name

NODE: Final = "node"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure is of: the node itself, a service as the node's proxy sees it, or a copy."""

    service: ServiceId | None = None
    allocation: AllocationId | None = None
    slot: int = 0

    @property
    def name(self) -> str:
        """As it stands in messages; of the node itself nothing."""
        if self.service is None:
            return ""
        shown = display_name(self.service)
        return shown if self.allocation is None else f"{shown}.{self.slot + 1}"


def copy_subject(service: ServiceId, slot: int, allocation: AllocationId) -> str:
    """Of a copy."""
    return f"copy {service} {slot} {allocation}"


def service_subject(service: ServiceId) -> str:
    """Of a service."""
    return f"service {service}"


def read_subject(text: str) -> Subject:
    """What `text`, as those above gave it, is of. What cannot be read is of the node."""
    kind, *words = text.split(" ")
    if kind == "copy" and len(words) == 3 and words[1].isdecimal():
        return Subject(service=ServiceId(words[0]), slot=int(words[1]), allocation=AllocationId(words[2]))
    if kind == "service" and len(words) == 1:
        return Subject(service=ServiceId(words[0]))
    return Subject()


def split_series(name: str) -> tuple[str, Subject]:
    """The figure of a series, and of what it is."""
    figure, _, subject = name.partition(" ")
    return figure, read_subject(subject)
