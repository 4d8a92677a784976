"""What a rule found, in figures and names: all that sentences may be made of."""

import msgspec

from orca.model.alert import AlertRule
from orca.model.ids import SpecRevision


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one alert.

    `count` events of `copies` copies on `nodes` within `span_s`. `exit_codes`: each with how often it came.
    `new_revision` was deployed shortly before the first. `words` are the messages of the newest events in lower
    case: they are searched for marks and never shown.
    """

    rule: AlertRule
    name: str
    runtime: str = ""
    count: int
    copies: int
    nodes: tuple[str, ...]
    span_s: int
    exit_codes: tuple[tuple[int, int], ...] = ()
    new_revision: SpecRevision | None = None
    words: str = ""
