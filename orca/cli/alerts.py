"""The verb `alerts`: what is wrong, what to do next, and what people say about it."""

from typing import TYPE_CHECKING, Any, Final

import asyncclick as click

from orca.cli.changes import Duration
from orca.cli.live_names import complete_service
from orca.cli.notify import notify
from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orca.cli.console import Console
    from orca.cli.text import Cell
    from orca.model.alert import AlertsReply, AlertView, SilenceView

_LOOKS: Final = ("ls", "show", "explain", "silences")
_CHANGES: Final = ("ack", "resolve", "silence", "unsilence", "notify")
_USAGE: Final = (
    "ls | show ALERT | explain ALERT | ack ALERT... | resolve ALERT... | silence [SERVICE] | silences | unsilence ID | "
    "notify ls|add|rm|test"
)


def complete_alert(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What may be done, then names of services."""
    words = tuple(ctx.params.get("words") or ())
    known = [] if words else [word for word in (*_LOOKS, *_CHANGES) if word.startswith(incomplete)]
    return known + complete_service(ctx, param, incomplete)


def _only_looks(words: tuple[str, ...], **_: Any) -> bool:
    return not words or words[0] not in _CHANGES


@verb(
    "alerts",
    argument("words", nargs=-1, metavar=f"[{_USAGE}]", shell_complete=complete_alert),
    option("--all", "-a", "has_resolved", is_flag=True, help="For ls: also those that are over."),
    option("--reason", "-m", default="", metavar="TEXT", help="For ack, resolve, silence: why. A silence needs one."),
    option("--for", "ttl_s", type=Duration(), help="For silence and ack: until when; a silence needs an end."),
    option("--project", metavar="PROJECT", help="For silence and notify add: what is of this project."),
    option("--on", "where", default="", metavar="NODE", help="For silence: what happens on this node and no other."),
    option("--severity", metavar="SEVERITY", help="For notify add: info, warning [default] or error, and worse."),
    option("--rule", metavar="RULE", help="For silence: what this rule finds, as crash-loop."),
    more="Found in the histories of all nodes whenever you ask. ALERT is an alert's id, or what it is about. show: the "
    "evidence, quoted, and possible causes, the likeliest first, each with the command that checks or mends it. "
    "explain: also what the rule looks for and what was said about it. ack: somebody sees to it, until it is over. "
    "resolve: it is over; what happens later raises it again. silence: for a while nobody is told of what fits "
    "all that is named. notify: channels that are told by themselves when an alert fires, worsens or is over; an "
    "ADDRESS is one of apprise, as json://host/path, slack://… or mailto://…, and is kept as a secret.",
    is_plain=_only_looks,
)
async def alerts_command(  # noqa: PLR0913 - words and options of seven actions
    session: Session,
    words: tuple[str, ...],
    *,
    has_resolved: bool,
    reason: str,
    ttl_s: float | None,
    project: str | None,
    where: str,
    rule: str | None,
    severity: str | None,
) -> None:
    """Alerts in a table, one at length, or something said about some."""
    from orca.errors import InvalidRequestError

    action, *names = words or ("ls",)
    if action not in (*_LOOKS, *_CHANGES):
        action, names = "show", list(words)
    given = {"reason": reason, "ttl_s": ttl_s, "project": project, "where": where, "rule": rule, "severity": severity}
    _check_options(action, given)
    if action in {"ls", "silences"} and names:
        raise InvalidRequestError(f"orca alerts {action} takes no names; orca alerts [{_USAGE}]")
    if action in {"show", "explain", "unsilence"} and len(names) != 1:
        raise InvalidRequestError(f"orca alerts {action} takes one name, not {len(names)}")
    match action:
        case "ls":
            _show_all(session, await session.reads().alerts(has_resolved=has_resolved))
        case "show" | "explain":
            await _show_one(session, names[0], is_whole=action == "explain")
        case "silences":
            reply = await session.reads().silences()
            if session.console.as_json:
                session.console.data(reply)
            else:
                _show_silences(reply.silences, reply.observation.at_ms, session.console)
        case "silence":
            await _silence(session, names, reason=reason, ttl_s=ttl_s, project=project, where=where, rule=rule)
        case "notify":
            await notify(session, names, severity=severity, project=project)
        case "unsilence":
            await _unsilence(session, names[0])
        case _:
            await _mark(session, action, names, reason, ttl_s)


def _check_options(action: str, given: "Mapping[str, object]") -> None:
    from orca.errors import InvalidRequestError

    taken = {
        "ack": ("reason", "ttl_s"),
        "resolve": ("reason",),
        "silence": ("reason", "ttl_s", "project", "where", "rule"),
        "notify": ("project", "severity"),
    }.get(action, ())
    flags = {"ttl_s": "--for", "where": "--on"}
    for name, value in given.items():
        if value not in {None, ""} and name not in taken:
            raise InvalidRequestError(f"{flags.get(name, f'--{name}')} is not for orca alerts {action}")


def _found(reply: "AlertsReply", name: str) -> "tuple[AlertView, ...]":
    """The alerts that `name` means. Raises NotFoundError naming those that there are."""
    from orca.errors import NotFoundError

    found = tuple(one for one in reply.alerts if name in (one.id, one.subject, one.service))
    if not found:
        known = ", ".join(one.id for one in reply.alerts[:20]) or "none"
        raise NotFoundError(f"there is no alert {name[:80]!r}; there are: {known}")
    return found


async def _show_one(session: Session, name: str, *, is_whole: bool) -> None:
    import msgspec

    reply = await session.reads().alerts(has_resolved=True)
    found = _found(reply, name)
    if session.console.as_json:
        session.console.data(msgspec.structs.replace(reply, alerts=found))
        return
    rules = (await session.reads().alert_rules()).rules if is_whole else ()
    for one in found:
        explain(one, session.console)
        for rule in rules:
            if rule.rule is one.rule:
                session.console.line(f"rule {rule.rule.value}:", "dim")
                session.console.line(f"  fires {rule.fires}")
                session.console.line(f"  is over {rule.ends}")


async def _mark(session: Session, action: str, names: "Sequence[str]", reason: str, ttl_s: float | None) -> None:
    from orca.errors import InvalidRequestError
    from orca.model.alert import AcknowledgeRequest, AlertState, ResolveRequest

    if not names:
        raise InvalidRequestError(f"name the alerts: orca alerts {action} ALERT...")
    async with session.client() as client:
        known = await client.alerts()
        chosen = tuple(dict.fromkeys(one.id for name in names for one in _found(known, name)))
        if action == "ack":
            request = AcknowledgeRequest(alerts=chosen, reason=reason, ttl_s=ttl_s)
            reply = await client.about_alerts.acknowledge(request)
        else:
            reply = await client.about_alerts.resolve(ResolveRequest(alerts=chosen, reason=reason))
    if session.console.as_json:
        session.console.data(reply)
        return
    for one in reply.alerts:
        said = "somebody sees to it" if action == "ack" else "is over"
        if action == "resolve" and one.state is AlertState.FIRING:
            said = "was said to be over, and fires again"
        session.console.line(f"{one.id}: {said}", "green")


async def _silence(
    session: Session,
    names: "Sequence[str]",
    *,
    reason: str,
    ttl_s: float | None,
    project: str | None,
    where: str,
    rule: str | None,
) -> None:
    from orca.commands.names import resolve_service
    from orca.errors import InvalidRequestError
    from orca.model.alert import AlertRule, SilenceRequest
    from orca.model.ids import ProjectName

    if ttl_s is None or not reason:
        raise InvalidRequestError("a silence has an end and a reason: orca alerts silence web --for 2h --reason TEXT")
    if len(names) > 1:
        raise InvalidRequestError("a silence is of one service; name a project for more, or make several")
    known = {one.value: one for one in AlertRule}
    if rule is not None and rule not in known:
        raise InvalidRequestError(f"there is no rule {rule[:80]!r}; there are: {', '.join(known)}")
    async with session.client() as client:
        service = resolve_service(names[0], (await client.services()).services).id if names else None
        request = SilenceRequest(
            reason=reason,
            ttl_s=ttl_s,
            service=service,
            project=None if project is None else ProjectName(project),
            node=where,
            rule=None if rule is None else known[rule],
        )
        reply = await client.about_alerts.silence(request)
    if session.console.as_json:
        session.console.data(reply)
        return
    _show_silences(reply.silences, reply.observation.at_ms, session.console)
    session.console.line(f"ends before that with: orca alerts unsilence {reply.silences[0].id}", "dim")


async def _unsilence(session: Session, silence: str) -> None:
    from orca.model.ids import SilenceId

    async with session.client() as client:
        reply = await client.about_alerts.end_silence(SilenceId(silence))
    if session.console.as_json:
        session.console.data(reply)
    else:
        session.console.line(f"silence {silence} is over", "green")


def _show_all(session: Session, reply: "AlertsReply") -> None:
    if session.console.as_json:
        session.console.data(reply)
    else:
        show(reply, session.console)


def show(reply: "AlertsReply", console: "Console") -> None:
    """ALERT STATE SINCE WHAT, one line an alert, then what the answer does not cover."""
    from orca.cli.render import clock_text, silence
    from orca.cli.text import Cell, Column, clean

    if not reply.alerts:
        console.line("no alerts", "green")
    else:
        rows: list[list[Cell | str]] = [
            [clean(one.id), _state(one), clock_text(one.since_ms), clean(one.facts[0])] for one in reply.alerts
        ]
        columns = (Column("ALERT"), Column("STATE"), Column("SINCE"), Column("WHAT", shrinks_to=20))
        console.table(columns, rows)
        console.line("`orca alerts show ALERT`: evidence and possible causes", "dim")
    if reply.looked_from_ms is not None:
        console.line(f"events before {clock_text(reply.looked_from_ms)} were not looked at", "dim")
    for one in reply.silent:
        console.line(silence(one), "yellow")


def explain(alert: "AlertView", console: "Console") -> None:
    """Facts, quoted events, possible causes with their commands, and what was said about it."""
    from orca.cli.render import clock_text
    from orca.cli.text import clean

    style = "dim" if alert.resolved_at_ms is not None else _STYLES[alert.severity.value]
    until = f", until {clock_text(alert.resolved_at_ms)}" if alert.resolved_at_ms is not None else ""
    console.line(f"{clean(alert.id)}: {alert.state.value} since {clock_text(alert.since_ms)}{until}", style)
    for fact in alert.facts:
        console.line(f"  {clean(fact)}")
    console.line("evidence, quoted:", "dim")
    for quote in alert.quotes:
        console.line(f"  > {clean(quote)}")
    console.line("possible causes:", "dim")
    for number, one in enumerate(alert.causes, 1):
        console.line(f"  {number}. {clean(one.cause)} ({clean(one.because)})")
        console.line(f"     {clean(one.command)}", "bold")
    for line in _said(alert):
        console.line(clean(line), "cyan")


def _said(alert: "AlertView") -> list[str]:
    from orca.cli.render import clock_text

    lines = [f"stands for {one}" for one in alert.stands_for]
    for said, deed in (("acknowledged", alert.acknowledged), ("resolved", alert.resolved_by)):
        if deed is not None:
            until = "" if deed.ends_at_ms is None else f", until {clock_text(deed.ends_at_ms)}"
            why = f": {deed.reason}" if deed.reason else ""
            lines.append(f"{said} by {deed.by} at {clock_text(deed.at_ms)}{until}{why}")
    if alert.told:
        lines.append(f"told to {', '.join(alert.told)}")
    if alert.silence is not None:
        one = alert.silence
        lines.append(f"silenced by {one.by} until {clock_text(one.ends_at_ms)}: {one.reason} ({one.id})")
    return lines


_STYLES: Final = {"error": "red bold", "warning": "yellow", "info": ""}


def _state(alert: "AlertView") -> "Cell":
    from orca.cli.text import Cell

    if alert.resolved_at_ms is not None:
        return Cell(alert.state.value, "dim")
    if alert.silence is not None:
        return Cell("silenced", "dim")
    if alert.acknowledged is not None:
        return Cell("acknowledged", "cyan")
    return Cell(alert.state.value, _STYLES[alert.severity.value])


def _show_silences(silences: "Sequence[SilenceView]", now_ms: int, console: "Console") -> None:
    """ID WHAT BY ENDS WHY."""
    from orca.cli.members import span
    from orca.cli.text import Column, clean

    if not silences:
        console.line("nothing is silenced", "dim")
        return
    columns = (
        Column("ID"),
        Column("WHAT", shrinks_to=16),
        Column("BY", shrinks_to=10),
        Column("ENDS", is_number=True),
        Column("WHY", shrinks_to=16),
    )
    rows = [
        [
            clean(one.id),
            clean(_what(one)),
            clean(one.by),
            f"in {span(max(0, one.ends_at_ms - now_ms))}",
            clean(one.reason),
        ]
        for one in silences
    ]
    console.table(columns, rows)


def _what(silence: "SilenceView") -> str:
    from orca.model.ids import display_name

    service = None if silence.service is None else display_name(silence.service)
    node = silence.node_name or silence.node
    named = (("service", service), ("project", silence.project), ("node", node), ("rule", silence.rule))
    return ", ".join(f"{what} {name}" for what, name in named if name)
