"""What all commands have in common."""

from typing import ClassVar, Final

import msgspec

from orca.model.ids import RequestId
from orca.model.units import WallMs

SCHEMA: Final = 1
"""The newest schema that this release knows; `consensus.state.schema` has the rules."""


class CommandStruct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A command; everything in it is stamped where it is proposed.

    `since` is the schema that brought the command, `fields_since` those that brought
    fields later: `{"field": schema}`. A field that has its default is not in the bytes, so
    an older release reads a command that does not use what is new; one that does use it
    is an unknown field there, and stops it.
    """

    since: ClassVar[int] = 1
    fields_since: ClassVar[dict[str, int]] = {}

    at_ms: WallMs


class Change(CommandStruct, frozen=True, kw_only=True):
    """What a person or a program asked for: carried out once for each `request_id`, and audited.

    `actor` is who, `origin` from where (an address, or `local` for the unix socket).
    """

    request_id: RequestId
    actor: str
    origin: str = ""


class Duty(CommandStruct, frozen=True, kw_only=True):
    """What the cluster does by itself: safe to repeat, and too frequent to be audited."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value inside a command; a field that a release does not know stops it, too."""
