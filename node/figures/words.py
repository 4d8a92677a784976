"""What is said when a figure goes too far. Pure."""

from typing import Final

from node.figures.subjects import Subject
from node.figures.thresholds import Exceeded, Settled
from orca.model.units import format_duration

_SHARES: Final = {
    "memory_share": "of its memory limit in use",
    "node_memory_share": "of its memory in use",
    "disk_free_share": "of the disk of its data free",
    "inode_free_share": "of the inodes of its data's disk free",
    "store_share": "of its store in use",
    "error_share": "of its answers were errors (5xx) in the last minute",
    "queue_share": "of the places for waiting requests taken",
    "certificate_left_share": "of its certificate's life left",
}
_SECONDS: Final = {
    "latency_p95_s": "for 95 of 100 answers in the last minute",
    "clock_offset_s": "between its clock and those of others",
}


def sentence(change: Exceeded | Settled, subject: Subject, node: str) -> str:
    """`web.1: 94 % of its memory limit in use`; where it is told on is left to who shows it."""
    name = subject.name or node
    if change.value is None:
        return f"{name}: not measured any more ({change.figure})"
    again = " again" if isinstance(change, Settled) else ""
    if change.figure in _SHARES:
        return f"{name}: {change.value * 100:.0f} % {_SHARES[change.figure]}{again}"
    span = format_duration(round(change.value, 3 if change.value < 10 else 0))
    return f"{name}: {span} {_SECONDS.get(change.figure, change.figure)}{again}"
