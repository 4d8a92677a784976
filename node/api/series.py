"""`GET /v1/series`: figures over time, of all nodes that answer."""

from typing import Final

import msgspec
import trio

from node.api.call import Call, NoBody, Route
from node.api.caller import Caller
from node.api.far import ANSWER_S, FarNodes
from node.api.params import SeriesOf, SeriesQuery
from node.figures.minutes import Point
from node.figures.subjects import Subject, split_series
from orca.errors import ForbiddenError, InvalidRequestError, OrcaError
from orca.model.ids import NodeId
from orca.model.series import SeriesPoint, SeriesReply, SeriesView
from orca.model.view import NodeSilence


async def list_series(call: Call[SeriesQuery, NoBody]) -> SeriesReply:
    """`GET /v1/series`."""
    query, caller = call.query, call.caller
    if query.until_s >= query.since_s:
        raise InvalidRequestError(
            f"`until_s` is {query.until_s} and `since_s` {query.since_s}; both count back from now, so it is to be less"
        )
    if query.of is SeriesOf.NODES and caller.projects:
        raise ForbiddenError(f"{caller.actor} is limited to projects, and figures of nodes are of all projects")
    replies: list[SeriesReply] = []
    silent: list[NodeSilence] = []

    async def other(far: FarNodes, node: NodeId) -> None:
        try:
            with trio.fail_after(ANSWER_S):
                async with far.client(node, caller) as client:
                    replies.append(await client.series(query_of(query)))
        except (OrcaError, trio.TooSlowError) as error:
            silent.append(far.silence(node, error))

    async with trio.open_nursery() as nursery:
        for node in () if call.far is None else call.far.others():
            assert call.far is not None, "others are asked only where there is a way"
            nursery.start_soon(other, call.far, node)
        own = await _own(call)
    series = [one for reply in (own, *replies) for one in reply.series]
    series.sort(key=lambda one: (one.service or "", one.slot or 0, one.allocation or "", one.node_name, one.figure))
    return msgspec.structs.replace(own, series=tuple(series), silent=tuple(silent))


def query_of(query: SeriesQuery) -> tuple[tuple[str, str | int | bool | None], ...]:
    """As the client takes it."""
    fixed: tuple[tuple[str, str | int | bool | None], ...] = (
        ("since_s", query.since_s),
        ("until_s", query.until_s),
        ("points", query.points),
        ("of", query.of.value),
        ("service", query.service),
        ("allocation", query.allocation),
    )
    return (*fixed, *(("figure", one) for one in query.figure))


async def _own(call: Call[SeriesQuery, NoBody]) -> SeriesReply:
    query, observation = call.query, call.control.observation()
    now_s = observation.at_ms // 1000
    step_s, found = await call.control.figures.read(
        now_s - query.since_s,
        now_s - query.until_s + 1,
        lambda name: _is_wanted(query, call.caller, *split_series(name)),
        now_s=now_s,
        points_max=query.points,
    )
    node = call.control.node()
    views = tuple(
        _view(name, points, observation.observer, node.facts.name) for name, points in sorted(found.items()) if points
    )
    return SeriesReply(observation=observation, step_s=step_s, series=views)


def _is_wanted(query: SeriesQuery, caller: Caller, figure: str, subject: Subject) -> bool:
    kinds = {SeriesOf.COPIES: subject.allocation is not None, SeriesOf.NODES: subject.service is None}
    is_of_service = subject.service is not None and subject.allocation is None
    return (
        kinds.get(query.of, is_of_service)
        and (not query.figure or figure in query.figure)
        and (query.service is None or subject.service == query.service)
        and (query.allocation is None or subject.allocation == query.allocation)
        and (subject.service is None or caller.sees_service(subject.service))
    )


def _view(name: str, points: list[Point], node: NodeId, node_name: str) -> SeriesView:
    figure, subject = split_series(name)
    return SeriesView(
        figure=figure,
        node=node,
        node_name=node_name,
        service=subject.service,
        allocation=subject.allocation,
        slot=None if subject.allocation is None else subject.slot,
        points=tuple(SeriesPoint(one.at_s, _short(one.mean), _short(one.peak)) for one in points),
    )


def _short(value: float) -> float:
    """Six digits: more were never measured."""
    return float(f"{value:.6g}")


SERIES_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/series",
        handler=list_series,
        summary="Figures over time: of copies, of services as they were asked, or of nodes",
        tag="allocations",
        reply=SeriesReply,
        query=SeriesQuery,
        errors=(InvalidRequestError, ForbiddenError),
    ),
)
