"""`GET /v1/alerts`: what is wrong, from the histories of all nodes."""

from typing import Any, Final

import trio

from node.alerts.rules import evaluate
from node.api.call import Call, NoBody, Route
from node.api.events import page_of_all
from node.api.params import EVENTS_LIMIT_MAX, AlertsQuery, EventsQuery
from orca.model.alert import AlertsReply, AlertState


async def list_alerts(call: Call[AlertsQuery, NoBody]) -> AlertsReply:
    """`GET /v1/alerts`."""
    query = EventsQuery(everywhere=True, limit=EVENTS_LIMIT_MAX, service=call.query.service)
    asked: Call[EventsQuery, Any] = Call(
        call.control, call.request, call.caller, call.path, query, NoBody(), far=call.far, subject=call.subject
    )
    page = await page_of_all(asked)
    members = call.control.membership.members()
    names = {one.id: one.name for one in members if one.id is not None}
    present = frozenset(one.name for one in members)
    # In a thread: a thousand events of hundreds of services take longer than the loop may be held up.
    found = await trio.to_thread.run_sync(evaluate, page.events, page.observation.at_ms, names, present)
    if not call.query.resolved:
        found = tuple(one for one in found if one.state is AlertState.FIRING)
    return AlertsReply(
        observation=page.observation,
        alerts=found,
        looked_from_ms=page.events[0].at_ms if page.earlier and page.events else None,
        silent=page.silent,
    )


ALERT_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/alerts",
        handler=list_alerts,
        summary="What is wrong, with evidence and possible causes",
        tag="cluster",
        reply=AlertsReply,
        query=AlertsQuery,
    ),
)
