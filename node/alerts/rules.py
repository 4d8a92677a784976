"""From events to alerts: what the rules (`specs.py`) make of a history. Pure.

Events come in the order of time. Before each one that it takes, and at the end for `now_ms`, a case is brought to that
moment: holds end, and calms are over. So the answer for a moment does not depend on when anybody asked before.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from node.alerts.causes import possible_causes
from node.alerts.evidence import quotable
from node.alerts.findings import Finding
from node.alerts.specs import INHIBITED_BY, RULES, RuleSpec, SubjectKind
from node.alerts.wording import facts_of
from orca.model.alert import AlertRule, AlertState, AlertView
from orca.model.event import EventKind, NodeEvent, Severity
from orca.model.ids import AllocationId, NodeId, ServiceId, display_name
from orca.model.units import WallMs

QUOTES_MAX: Final = 5
EVENTS_KEPT_MAX: Final = 100
"""Of one copy in one case, the newest."""
DEPLOYED_LATELY_S: Final = 600
_OUT_OF_MEMORY: Final = "out of memory"


SAME_MS: Final = 10_000
"""Several observers tell of one failure of a member within this."""


_Unit: TypeAlias = tuple[AllocationId | None, NodeId | None, str]
"""What is counted for itself: a copy; of a figure without a copy, that figure on that node."""


def _unit(event: NodeEvent) -> _Unit:
    if event.figure:
        return event.allocation, event.node, event.figure
    return event.allocation, None, ""


class _Case:
    """One rule about one subject, from its first event on."""

    def __init__(self, spec: RuleSpec, subject: str, event: NodeEvent) -> None:
        self.spec = spec
        self.subject = subject
        self.service = event.service if spec.subject is SubjectKind.SERVICE else None
        self.node = event.node if spec.subject is SubjectKind.NODE else None
        self.events: dict[_Unit, list[NodeEvent]] = {}
        self.due_ms: dict[_Unit, int] = {}
        self.last: list[NodeEvent] = []
        self.since_ms: WallMs | None = None
        self.resolved_at_ms: WallMs | None = None

    @property
    def wakes_at_ms(self) -> int | None:
        """When time alone changes it, if nothing happens before."""
        if not self.events:
            return None
        if self.since_ms is None:
            return min(self.due_ms.values(), default=None)
        calm_s = self.spec.calm_s
        return None if calm_s is None or not self.is_firing else self.last[-1].at_ms + calm_s * 1000

    @property
    def severity(self) -> Severity:
        """Of the rule; of figures the worst that was told and is not over."""
        if not self.spec.figures:
            return self.spec.severity
        told = [one[-1].severity for one in self.events.values() if one] or [self.last[-1].severity]
        return Severity.ERROR if Severity.ERROR in told else self.spec.severity

    @property
    def is_firing(self) -> bool:
        return self.since_ms is not None and self.resolved_at_ms is None

    def raised(self, event: NodeEvent) -> None:
        """One more event that counts."""
        if self.resolved_at_ms is not None:
            self.since_ms = self.resolved_at_ms = None
            self.last = []
        copy = _unit(event)
        known = self.events.setdefault(copy, [])
        if self.spec.subject is SubjectKind.MEMBER and known and event.at_ms - known[-1].at_ms <= SAME_MS:
            return
        known.append(event)
        self.last.append(event)
        if self.since_ms is None:
            self._count(known, copy)
        del known[:-EVENTS_KEPT_MAX]
        self.advance(event.at_ms)

    def cleared(self, event: NodeEvent) -> None:
        """What speaks against it."""
        if event.kind in self.spec.clears:
            self.events.clear()
        elif event.kind in self.spec.clears_copy:
            # What goes away itself takes all its figures along.
            gone = [_unit(event)] if event.figure else [one for one in self.events if one[0] == event.allocation]
            for unit in gone:
                self.events.pop(unit, None)
                self.due_ms.pop(unit, None)
        else:
            return
        if not self.events:
            self._over(event.at_ms)

    def advance(self, at_ms: int) -> None:
        """Bring it to `at_ms`."""
        if not self.events:
            return
        if self.since_ms is None:
            due_ms = min(self.due_ms.values(), default=None)
            if due_ms is not None and due_ms <= at_ms:
                self.since_ms = WallMs(due_ms)
        newest_ms, calm_s = self.last[-1].at_ms, self.spec.calm_s
        if self.is_firing and calm_s is not None and at_ms - newest_ms >= calm_s * 1000:
            self._over(newest_ms + calm_s * 1000)

    def ended(self, at_ms: int) -> None:
        """Somebody says that it is over: what happened until then counts no more."""
        self.advance(at_ms)
        if self.events:
            self._over(at_ms)

    def nodes(self, ids: Mapping[str, NodeId]) -> tuple[NodeId, ...]:
        """Where it happened; of a member the member itself. `ids` are those of names."""
        if self.spec.subject is SubjectKind.MEMBER:
            return (ids[self.subject],) if self.subject in ids else ()
        return tuple(sorted({one.node for one in self.last}))

    def _count(self, known: list[NodeEvent], copy: _Unit) -> None:
        """Forget what is too old to count; what makes it enough, not what came first, begins the hold."""
        spec, newest_ms = self.spec, known[-1].at_ms
        while newest_ms - known[0].at_ms > spec.window_s * 1000:
            self.last.remove(known.pop(0))
        if len(known) < spec.count:
            self.due_ms.pop(copy, None)
        elif copy not in self.due_ms:
            self.due_ms[copy] = known[spec.count - 1].at_ms + spec.hold_s * 1000

    def _over(self, at_ms: int) -> None:
        """Nothing is left that counts: what fired is over, what did not never was."""
        if self.is_firing:
            self.resolved_at_ms = WallMs(at_ms)
        elif self.resolved_at_ms is None:
            self.last = []
        self.events, self.due_ms = {}, {}


def _rules_of() -> dict[EventKind, tuple[RuleSpec, ...]]:
    found: dict[EventKind, list[RuleSpec]] = {}
    for spec in RULES:
        for kind in sorted(spec.raised_by | spec.clears | spec.clears_copy, key=lambda one: one.value):
            found.setdefault(kind, []).append(spec)
    return {kind: tuple(specs) for kind, specs in found.items()}


_RULES_OF: Final = _rules_of()
"""Those that care about a kind of event."""


class _Book:
    """All cases, and what is told beside them of services."""

    def __init__(self, resolved: Mapping[str, WallMs]) -> None:
        self.ends = sorted((at_ms, key) for key, at_ms in resolved.items())
        self.cases: dict[str, _Case] = {}
        self.exits: dict[ServiceId, list[NodeEvent]] = {}
        self.deployed: dict[ServiceId, NodeEvent] = {}
        self.was_up: dict[str, None] = {}

    def advance(self, at_ms: int) -> None:
        """Bring all cases to `at_ms`."""
        for case in self.cases.values():
            case.advance(at_ms)

    def end_next(self) -> None:
        """What somebody said to be over is over."""
        ended_ms, key = self.ends.pop(0)
        if key in self.cases:
            self.cases[key].ended(ended_ms)

    def take(self, event: NodeEvent) -> None:
        """The next event."""
        while self.ends and self.ends[0][0] < event.at_ms:
            self.end_next()
        for spec in _RULES_OF.get(event.kind, ()):
            subject = _subject(spec, event)
            if subject is None:
                continue
            key = f"{spec.rule.value}:{subject}"
            case = self.cases.get(key)
            if case is not None:
                case.advance(event.at_ms)
            if event.kind is EventKind.RUNTIME_UP:
                self.was_up[subject] = None
            if _raises(spec, event):
                if event.kind is EventKind.RUNTIME_DOWN and subject not in self.was_up:
                    continue  # a node without Docker is as it was meant to be
                if case is None:
                    case = self.cases[key] = _Case(spec, subject, event)
                case.raised(event)
            elif case is not None:
                case.cleared(event)
        if event.service is not None and event.kind is EventKind.ALLOCATION_EXITED:
            known = self.exits.setdefault(event.service, [])
            known.append(event)
            del known[:-EVENTS_KEPT_MAX]
        elif event.service is not None and event.kind is EventKind.SERVICE_DEPLOYED:
            self.deployed[event.service] = event


def evaluate(
    events: Iterable[NodeEvent],
    now_ms: WallMs,
    names: Mapping[NodeId, str],
    members: frozenset[str],
    resolved: Mapping[str, WallMs] = MappingProxyType({}),
) -> tuple[AlertView, ...]:
    """The alerts of `events` as of `now_ms`, firing ones first, then by severity and age.

    `names` are those of nodes. Who is none of `members` any more is not missed. `resolved`: when somebody said of an
    alert that it is over.
    """
    return look(events, now_ms, names, members, resolved)[0]


def look(
    events: Iterable[NodeEvent],
    now_ms: WallMs,
    names: Mapping[NodeId, str],
    members: frozenset[str],
    resolved: Mapping[str, WallMs] = MappingProxyType({}),
) -> tuple[tuple[AlertView, ...], int | None]:
    """The same, and when time alone will make the answer another one; None: only an event will."""
    book = _Book(resolved)
    for event in sorted(events, key=lambda one: (one.at_ms, one.node, one.sequence)):
        book.take(event)
    while book.ends:
        book.end_next()  # also what a clock that is ahead of this one says
    book.advance(now_ms)
    shown = {
        key: case
        for key, case in book.cases.items()
        if case.since_ms is not None and (case.spec.subject is not SubjectKind.MEMBER or case.subject in members)
    }
    ids = {name: node for node, name in names.items()}
    hidden = {key: by for key, case in shown.items() if (by := _stand_in(case, shown, ids)) is not None}
    stands_for: dict[str, list[str]] = {}
    for key, by in hidden.items():
        while by in hidden:
            by = hidden[by]
        stands_for.setdefault(by, []).append(key)
    views = [
        _view(key, case, book, names, ids, tuple(stands_for.get(key, ())))
        for key, case in shown.items()
        if key not in hidden
    ]
    ranks = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
    views.sort(key=lambda one: (one.state is AlertState.RESOLVED, ranks[one.severity], -one.since_ms, one.id))
    wakes = (case.wakes_at_ms for case in book.cases.values())
    return tuple(views), min((one for one in wakes if one is not None), default=None)


def _stand_in(case: _Case, shown: Mapping[str, _Case], ids: Mapping[str, NodeId]) -> str | None:
    """The firing alert that `case` comes from, if there is one."""
    keys = [f"{rule.value}:{case.subject}" for rule in INHIBITED_BY.get(case.spec.rule, ())]
    if case.spec.subject is not SubjectKind.MEMBER:
        where = case.nodes(ids)
        keys += [f"{AlertRule.NODE_FAILED.value}:{name}" for name, node in ids.items() if where == (node,)]
    return next((key for key in keys if key in shown and shown[key].is_firing), None)


def service_of(alert: str) -> ServiceId | None:
    """The service that the alert with this id is about, None when it is about something else."""
    rule, _, subject = alert.partition(":")
    is_of_service = any(one.rule.value == rule and one.subject is SubjectKind.SERVICE for one in RULES)
    return ServiceId(subject) if is_of_service and "/" in subject else None


def _subject(spec: RuleSpec, event: NodeEvent) -> str | None:
    match spec.subject:
        case SubjectKind.SERVICE:
            return event.service
        case SubjectKind.NODE:
            return _runtime_of(event) if spec.rule is AlertRule.RUNTIME_DOWN else str(event.node)
        case SubjectKind.MEMBER:
            return _member_of(event)


def _runtime_of(event: NodeEvent) -> str | None:
    """Each runtime of a node is a subject of its own: messages of these kinds begin with its name."""
    if event.kind not in {EventKind.RUNTIME_DOWN, EventKind.RUNTIME_UP}:
        return None
    return f"{event.node}/{quotable(event.message.partition(' ')[0])}"


def _member_of(event: NodeEvent) -> str | None:
    """Messages of gossip begin with the member's name, then its address in brackets."""
    if event.kind not in {EventKind.MEMBER_FAILED, EventKind.MEMBER_JOINED, EventKind.MEMBER_LEFT}:
        return None
    return quotable(event.message.partition(" (")[0])


def _raises(spec: RuleSpec, event: NodeEvent) -> bool:
    if event.kind not in spec.raised_by or (spec.figures and event.figure not in spec.figures):
        return False
    return spec.is_out_of_memory is None or spec.is_out_of_memory == _is_out_of_memory(event)


def _is_out_of_memory(event: NodeEvent) -> bool:
    """Whether the reason, which follows the copy's name, begins with that: what a program said cannot stand there."""
    mark = " ended: " if event.kind is EventKind.ALLOCATION_EXITED else ": "
    return event.message.partition(mark)[2].startswith(_OUT_OF_MEMORY)


def _view(
    key: str,
    case: _Case,
    book: _Book,
    names: Mapping[NodeId, str],
    ids: Mapping[str, NodeId],
    stands_for: tuple[str, ...],
) -> AlertView:
    assert case.since_ms is not None, "only what fired is shown"
    finding = _finding(case, book, names)
    quotes = tuple(dict.fromkeys(quotable(one.message) for one in reversed(case.last)))[:QUOTES_MAX]
    return AlertView(
        id=key,
        rule=case.spec.rule,
        severity=case.severity,
        state=AlertState.FIRING if case.is_firing else AlertState.RESOLVED,
        subject=finding.name,
        since_ms=case.since_ms,
        last_ms=case.last[-1].at_ms,
        facts=facts_of(finding),
        quotes=quotes,
        causes=possible_causes(finding),
        service=case.service,
        node=case.node,
        resolved_at_ms=case.resolved_at_ms,
        nodes=case.nodes(ids),
        stands_for=stands_for,
    )


def _finding(case: _Case, book: _Book, names: Mapping[NodeId, str]) -> Finding:
    first, last = case.last[0], case.last[-1]
    codes: dict[int, int] = {}
    deployed: NodeEvent | None = None
    if case.service is not None:
        for one in () if case.spec.rule is AlertRule.ROLLOUT_FAILED else book.exits.get(case.service, ()):
            if first.at_ms - 1000 <= one.at_ms <= last.at_ms and one.exit_code is not None:
                codes[one.exit_code] = codes.get(one.exit_code, 0) + 1
        deployed = book.deployed.get(case.service)
    is_new = deployed is not None and 0 <= first.at_ms - deployed.at_ms <= DEPLOYED_LATELY_S * 1000
    node = case.node
    name = display_name(case.service) if case.service is not None else case.subject
    return Finding(
        rule=case.spec.rule,
        name=name if node is None else names.get(node, str(node)),
        runtime=case.subject.partition("/")[2] if case.spec.rule is AlertRule.RUNTIME_DOWN else "",
        count=len(case.last),
        copies=len({one.allocation for one in case.last}),
        nodes=tuple(sorted({names.get(one.node, str(one.node)) for one in case.last})),
        span_s=(last.at_ms - first.at_ms) // 1000,
        exit_codes=tuple(sorted(codes.items())),
        new_revision=deployed.revision if deployed is not None and is_new else None,
        words=" ".join(one.message.lower() for one in case.last[-QUOTES_MAX:]),
    )
