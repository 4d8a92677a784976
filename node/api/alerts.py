"""`/v1/alerts` and `/v1/silences`: what is wrong, from the histories of all nodes, and what people say about it."""

from typing import Any, Final

import msgspec
import trio

from node.alert_desk import missing_silence
from node.alerts.handling import handled, resolutions
from node.alerts.rulebook import rule_views
from node.alerts.rules import evaluate, service_of
from node.api.call import CHANGE_ERRORS, WRITE_ERRORS, BodyKind, Call, NoBody, NoQuery, Route
from node.api.caller import Caller
from node.api.events import page_of_all
from node.api.params import EVENTS_LIMIT_MAX, AlertsQuery, EndQuery, EventsQuery
from orca.errors import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from orca.model.alert import (
    AcknowledgeRequest,
    AlertsReply,
    AlertState,
    AlertView,
    ResolveRequest,
    RulesReply,
    SilenceRequest,
    SilencesReply,
    SilenceView,
)
from orca.model.ids import ServiceId, SilenceId, split_service_id

_NAMED_MAX: Final = 10


async def list_alerts(call: Call[AlertsQuery, NoBody]) -> AlertsReply:
    """`GET /v1/alerts`."""
    found = await _look(call, call.query.service)
    if call.query.resolved:
        return found
    firing = tuple(one for one in found.alerts if one.state is AlertState.FIRING)
    return msgspec.structs.replace(found, alerts=firing)


async def list_rules(_: Call[NoQuery, NoBody]) -> RulesReply:
    """`GET /v1/alerts/rules`."""
    return RulesReply(rules=rule_views())


async def acknowledge(call: Call[NoQuery, AcknowledgeRequest]) -> AlertsReply:
    """`POST /v1/alerts/ack`."""
    await _check_named(call, call.body.alerts)
    await call.control.alerts.acknowledge(call.body, by=call.author)
    return await _named(call, call.body.alerts)


async def resolve(call: Call[NoQuery, ResolveRequest]) -> AlertsReply:
    """`POST /v1/alerts/resolve`."""
    await _check_named(call, call.body.alerts)
    await call.control.alerts.resolve(call.body, by=call.author)
    return await _named(call, call.body.alerts)


async def list_silences(call: Call[NoQuery, NoBody]) -> SilencesReply:
    """`GET /v1/silences`."""
    found = tuple(one for one in call.control.alerts.silences() if _is_of(call.caller, one.service, one.project))
    return SilencesReply(observation=call.control.observation(), silences=found)


async def silence(call: Call[NoQuery, SilenceRequest]) -> SilencesReply:
    """`POST /v1/silences`."""
    _check_reach(call.caller, call.body.service, call.body.project)
    return await call.control.alerts.begin_silence(call.body, by=call.author)


async def end_silence(call: Call[EndQuery, NoBody]) -> SilencesReply:
    """`DELETE /v1/silences/{silence}`."""
    silence_id = SilenceId(call.path["silence"])
    held: SilenceView = call.control.alerts.silence(silence_id)
    if not _is_of(call.caller, held.service, held.project):
        raise missing_silence(silence_id)
    return await call.control.alerts.end_silence(silence_id, call.query.request_id, by=call.author)


async def _look(call: Call[Any, Any], service: ServiceId | None = None) -> AlertsReply:
    """All alerts that the caller may see, those that are over, too."""
    query = EventsQuery(everywhere=True, limit=EVENTS_LIMIT_MAX, service=service)
    asked: Call[EventsQuery, Any] = Call(
        call.control, call.request, call.caller, call.path, query, NoBody(), far=call.far, subject=call.subject
    )
    page = await page_of_all(asked)
    members = call.control.membership.members()
    names = {one.id: one.name for one in members if one.id is not None}
    present = frozenset(one.name for one in members)
    desk, at_ms = call.control.alerts, page.observation.at_ms
    ended = resolutions(desk.marks)
    # In a thread: a thousand events of hundreds of services take longer than the loop may be held up.
    found = await trio.to_thread.run_sync(evaluate, page.events, at_ms, names, present, ended)
    alerts = handled(found, desk.marks, desk.silences(), at_ms)
    # Channels are of the whole cluster: no business of who is limited to projects.
    told = {} if call.caller.projects else call.control.channels.told()
    return AlertsReply(
        observation=page.observation,
        alerts=tuple(msgspec.structs.replace(one, told=told.get(one.id, ())) if told else one for one in alerts),
        looked_from_ms=page.events[0].at_ms if page.earlier and page.events else None,
        silent=page.silent,
    )


async def _check_named(call: Call[Any, Any], alerts: tuple[str, ...]) -> None:
    """Raise NotFoundError for an alert that there is not, and ForbiddenError for one that is no business of theirs."""
    if not alerts:
        raise InvalidRequestError("the request names no alert; `alerts` needs the id of at least one")
    for one in alerts if call.caller.projects else ():
        service = service_of(one)
        if service is None:
            raise ForbiddenError(f"{call.caller.actor} is limited to projects, and {one[:80]!r} is of none of them")
        call.caller.check_project(split_service_id(service)[0])
    known = {one.id: one for one in (await _look(call)).alerts}
    missing = [one for one in alerts if one not in known]
    if missing:
        present = ", ".join(list(known)[:_NAMED_MAX]) or "none"
        raise NotFoundError(f"there is no alert {missing[0][:80]!r}; there are: {present}")


async def _named(call: Call[Any, Any], alerts: tuple[str, ...]) -> AlertsReply:
    found = await _look(call)
    only: tuple[AlertView, ...] = tuple(one for one in found.alerts if one.id in alerts)
    return msgspec.structs.replace(found, alerts=only)


def _is_of(caller: Caller, service: ServiceId | None, project: str | None) -> bool:
    """Whether what names these is the business of `caller`'s projects alone."""
    of = project if service is None else split_service_id(service)[0]
    return not caller.projects or of in caller.projects


def _check_reach(caller: Caller, service: ServiceId | None, project: str | None) -> None:
    if not _is_of(caller, service, project):
        own = ", ".join(caller.projects)
        raise ForbiddenError(
            f"{caller.actor} may silence what is of {own} and nothing else: name a service or project of these"
        )


ALERT_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/alerts",
        handler=list_alerts,
        summary="What is wrong, with evidence and possible causes",
        tag="alerts",
        reply=AlertsReply,
        query=AlertsQuery,
    ),
    Route(
        method="GET",
        path="/v1/alerts/rules",
        handler=list_rules,
        summary="What each rule looks for, and when it is over",
        tag="alerts",
        reply=RulesReply,
    ),
    Route(
        method="POST",
        path="/v1/alerts/ack",
        handler=acknowledge,
        summary="Say that somebody sees to alerts",
        tag="alerts",
        reply=AlertsReply,
        body=BodyKind.JSON,
        request=AcknowledgeRequest,
        errors=(InvalidRequestError, *CHANGE_ERRORS),
    ),
    Route(
        method="POST",
        path="/v1/alerts/resolve",
        handler=resolve,
        summary="Say that alerts are over; what happens later raises them again",
        tag="alerts",
        reply=AlertsReply,
        body=BodyKind.JSON,
        request=ResolveRequest,
        errors=(InvalidRequestError, *CHANGE_ERRORS),
    ),
    Route(
        method="GET",
        path="/v1/silences",
        handler=list_silences,
        summary="Of which alerts nobody is to be told, until when and why",
        tag="alerts",
        reply=SilencesReply,
    ),
    Route(
        method="POST",
        path="/v1/silences",
        handler=silence,
        summary="Let nobody be told of some alerts for a while",
        tag="alerts",
        reply=SilencesReply,
        body=BodyKind.JSON,
        request=SilenceRequest,
        errors=(ConflictError, InvalidRequestError, NotFoundError, *WRITE_ERRORS),
    ),
    Route(
        method="DELETE",
        path="/v1/silences/{silence}",
        handler=end_silence,
        summary="End a silence before its time",
        tag="alerts",
        reply=SilencesReply,
        query=EndQuery,
        errors=CHANGE_ERRORS,
        variables={"silence": "the silence's id"},
    ),
)
