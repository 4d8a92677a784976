"""What a command tells while it runs: typed values for a plain callable."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from orca.commands.rollout import RolloutStep
from orca.model.view import ServiceChange


class BlobUploaded(msgspec.Struct, frozen=True, kw_only=True):
    """Content that a spec names is on the node now; `is_new` False: it was there already."""

    digest: str
    bytes_total: int
    is_new: bool


class BuildStarted(msgspec.Struct, frozen=True, kw_only=True):
    """An image is built from `context` under `tag`."""

    tag: str
    context: str


class BuildLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the builder's output."""

    tag: str
    text: str


class SpecWarning(msgspec.Struct, frozen=True, kw_only=True):
    """Something harmless in a file that Orca does not use."""

    text: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The node committed these changes."""

    changes: tuple[ServiceChange, ...]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The newest look at what is waited for."""

    step: RolloutStep


class Reconnecting(msgspec.Struct, frozen=True, kw_only=True):
    """The node went away while we looked on; what it runs goes on."""

    reason: str


Progress: TypeAlias = BlobUploaded | BuildStarted | BuildLine | SpecWarning | Accepted | Waiting | Reconnecting
Report: TypeAlias = Callable[[Progress], None]
"""Takes one value and returns at once."""


def ignore(_: Progress) -> None:
    """A `Report` for those who do not look."""
