"""What people say about alerts: the door between the API and the log."""

from typing import Final

from consensus.state.applying.results import TIME_MS_MAX
from consensus.state.commands import Command
from consensus.state.commands.alerts import AcknowledgeAlerts, EndSilence, ResolveAlerts, SilenceAlerts
from consensus.state.records import AlertMarkRecord, SilenceRecord
from node import changes
from node.alerts.handling import silence_view
from node.locks import Log
from node.upkeep import Observer, find_node
from orca.errors import InvalidRequestError, NotFoundError
from orca.model.alert import AcknowledgeRequest, ResolveRequest, SilenceRequest, SilencesReply, SilenceView
from orca.model.ids import ProjectName, RequestId, SilenceId
from orca.model.trust import Author
from orca.model.units import WallMs, format_duration
from orca.sources import Clock, IdSource

SILENCE_S_MAX: Final = 366 * 86_400.0
ACKNOWLEDGED_S_MAX: Final = 30 * 86_400.0


class AlertDesk:
    """Acknowledges, resolves, silences. Which alerts there are is for who calls to know."""

    def __init__(self, replica: Log, clock: Clock, ids: IdSource, observer: Observer) -> None:
        self._replica = replica
        self._clock = clock
        self._ids = ids
        self._observer = observer

    @property
    def marks(self) -> dict[str, AlertMarkRecord]:
        """What was said about which alert."""
        return self._replica.state.alert_marks

    def silences(self) -> tuple[SilenceView, ...]:
        """Those that have not ended, by their end."""
        state, now_ms = self._replica.state, self._clock.wall()
        found = [silence_view(one, state.nodes) for one in state.silences.values() if one.ends_at_ms > now_ms]
        return tuple(sorted(found, key=lambda one: (one.ends_at_ms, one.id)))

    def silence(self, silence: SilenceId) -> SilenceView:
        """One of them. Raises NotFoundError."""
        return silence_view(self._record(silence), self._replica.state.nodes)

    async def acknowledge(self, request: AcknowledgeRequest, *, by: Author) -> None:
        """Somebody sees to these alerts."""
        now_ms = self._clock.wall()
        ends_at_ms = None
        if request.ttl_s is not None:
            ends_at_ms = _end("an acknowledgement", request.ttl_s, ACKNOWLEDGED_S_MAX, now_ms)
        await self._propose(
            AcknowledgeAlerts(
                request_id=self._request_id(request.request_id),
                at_ms=now_ms,
                actor=by.actor,
                origin=by.origin,
                alerts=request.alerts,
                reason=request.reason,
                ends_at_ms=ends_at_ms,
            )
        )

    async def resolve(self, request: ResolveRequest, *, by: Author) -> None:
        """These alerts are over."""
        await self._propose(
            ResolveAlerts(
                request_id=self._request_id(request.request_id),
                at_ms=self._clock.wall(),
                actor=by.actor,
                origin=by.origin,
                alerts=request.alerts,
                reason=request.reason,
            )
        )

    async def begin_silence(self, request: SilenceRequest, *, by: Author) -> SilencesReply:
        """For a while nobody is told. Raises NotFoundError for a service, project or node that does not exist."""
        state, now_ms = self._replica.state, self._clock.wall()
        ends_at_ms = _end("a silence", request.ttl_s, SILENCE_S_MAX, now_ms)
        if not request.reason.strip():
            raise InvalidRequestError("a silence needs a reason: who wonders why nobody was told reads it")
        if request.service is not None:
            changes.existing(state, request.service)
        if request.project is not None:
            self._check_project(request.project)
        request_id = self._request_id(request.request_id)
        command = SilenceAlerts(
            request_id=request_id,
            at_ms=now_ms,
            actor=by.actor,
            origin=by.origin,
            silence=SilenceId(str(request_id)),
            ends_at_ms=ends_at_ms,
            reason=request.reason,
            service=request.service,
            project=request.project,
            node=find_node(state, request.node).id if request.node else None,
            rule="" if request.rule is None else request.rule.value,
        )
        await self._propose(command)
        made = SilenceRecord(
            id=command.silence,
            created_at_ms=now_ms,
            created_by=by.actor,
            ends_at_ms=ends_at_ms,
            reason=command.reason,
            service=command.service,
            project=command.project,
            node=command.node,
            rule=command.rule,
        )
        view = silence_view(made, self._replica.state.nodes)
        return SilencesReply(observation=self._observer.observation(), silences=(view,))

    async def end_silence(self, silence: SilenceId, request_id: RequestId | None, *, by: Author) -> SilencesReply:
        """It is over before its time. Raises NotFoundError."""
        ended = self.silence(silence)
        await self._propose(
            EndSilence(
                request_id=self._request_id(request_id),
                at_ms=self._clock.wall(),
                actor=by.actor,
                origin=by.origin,
                silence=silence,
            )
        )
        return SilencesReply(observation=self._observer.observation(), silences=(ended,))

    def _record(self, silence: SilenceId) -> SilenceRecord:
        record = self._replica.state.silences.get(silence)
        if record is None:
            raise missing_silence(silence)
        return record

    def _check_project(self, project: ProjectName) -> None:
        known = sorted({one.spec.project for one in self._replica.state.services.values()})
        if project not in known:
            raise NotFoundError(f"no service is of project {project[:80]!r}; there are: {', '.join(known) or 'none'}")

    def _request_id(self, given: RequestId | None) -> RequestId:
        return RequestId(self._ids.fresh()) if given is None else given

    async def _propose(self, command: Command) -> None:
        changes.raise_refusal(await self._replica.propose(command))


def missing_silence(silence: SilenceId) -> NotFoundError:
    """That there is none: also for who may not know of it."""
    return NotFoundError(f"there is no silence {silence[:80]!r}; `orca alerts silences` lists those that there are")


def _end(what: str, ttl_s: float, ttl_s_max: float, now_ms: WallMs) -> WallMs:
    if not 0 < ttl_s <= ttl_s_max:
        raise InvalidRequestError(
            f"{what} of {ttl_s:g} s is out of range; above 0 and at most {format_duration(ttl_s_max)}"
        )
    return WallMs(min(now_ms + max(1, round(ttl_s * 1000)), TIME_MS_MAX))
