"""What an operator was told is done stays done."""

from collections.abc import Iterable, Iterator

from consensus.state.cluster import REQUESTS_KEPT, ClusterState
from consensus.state.commands import PutServices, ScaleService
from simulations.nodes.operator import Asked

NAME = "acknowledged"


def find_lost_changes(asked: Iterable[Asked], state: ClusterState) -> Iterator[str]:
    """Acknowledged changes of which `state` knows nothing, in words.

    Every change of a service makes a revision, so a later change hides none: its number tells.
    """
    for one in asked:
        if one.outcome is None or not one.is_done:
            continue
        request = getattr(one.command, "request_id", None)
        if request not in state.requests and len(state.requests) < REQUESTS_KEPT:
            yield f"{type(one.command).__name__} {request} was acknowledged and never happened"
        for change in one.outcome.changes:
            record = state.services.get(change.service)
            if record is None or record.current.revision < change.revision:
                now = "not there" if record is None else f"at revision {record.current.revision}"
                yield f"{change.service} was acknowledged at revision {change.revision} and is {now}"
                continue
            kept = record.find(change.revision)
            if kept is None:
                continue
            if isinstance(one.command, PutServices):
                entry = next(entry for entry in one.command.entries if entry.spec.id == change.service)
                if kept.template.partition("+")[0] != entry.template and change.action.value != "nothing":
                    yield f"{change.service} has another template at revision {change.revision} than was acknowledged"
            elif isinstance(one.command, ScaleService) and kept.spec.replicas != one.command.replicas:
                yield f"{change.service} wants {kept.spec.replicas} copies at revision {change.revision}"
