"""What happens to a copy whose run has ended, or never began."""

from typing import Final, assert_never

import msgspec

from node.reconciler.backoff import backoff_s
from node.reconciler.copy import Copy
from node.reconciler.endings import Ending, describe_exit, judge_ending
from node.reconciler.events import Action
from node.reconciler.ledger import Ledger
from node.runtime.base import InstanceExited, InstanceState
from orca.config import ReconcilerConfig
from orca.model.allocation import Phase
from orca.model.event import EventKind, Severity
from orca.model.spec import RestartPolicy
from orca.model.units import Instant, WallMs, format_duration
from orca.sources import Rng

_ILL: Final = 1
_REMOVED: Final = "its instance was removed by somebody else"


class Setbacks:
    """Decides between another try, completion and failure, and writes it into the books."""

    def __init__(self, books: Ledger, config: ReconcilerConfig, rng: Rng) -> None:
        self._books = books
        self._config = config
        self._rng = rng

    def on_exit(self, copy: Copy, exited: InstanceExited) -> None:
        """The workload ended; who asked for it decides what that means."""
        if copy.instance is not None:
            copy.instance = msgspec.structs.replace(
                copy.instance,
                state=InstanceState.EXITED,
                exit_code=exited.exit_code,
                is_oom_killed=exited.is_oom_killed,
                detail=exited.detail,
            )
        self._books.stop_probes(copy)
        if copy.must_end or copy.action is Action.STOP or copy.assignment is None or copy.is_over:
            return
        copy.may_have_run = False
        copy.restart_reason = ""
        self._count_death(copy)
        why = describe_exit(exited)
        severity = Severity.INFO if exited.exit_code == 0 else Severity.WARNING
        self._books.happened(copy, EventKind.ALLOCATION_EXITED, f"{copy.name} ended: {why}", severity, exited.exit_code)
        self._books.report(copy, is_ready=False, exit_code=exited.exit_code)
        match judge_ending(copy.assignment.spec.restart, exited.exit_code, copy.deaths):
            case Ending.COMPLETE:
                self._books.report(
                    copy, phase=Phase.COMPLETED, is_ready=False, reason="", endpoints=(), next_start_at_ms=None
                )
                self._books.happened(copy, EventKind.ALLOCATION_COMPLETED, f"{copy.name} has done its work")
            case Ending.FAIL:
                self._fail(copy, why)
            case Ending.RESTART:
                self.back_off(copy, why, EventKind.ALLOCATION_RESTARTING)
            case other:
                assert_never(other)

    def on_removed(self, copy: Copy) -> None:
        """The instance is gone although nobody here removed it."""
        was_running = copy.is_running
        copy.instance = None
        copy.is_prepared = False
        copy.may_have_run = False
        copy.is_unsure = False
        self._books.stop_probes(copy)
        if not was_running or copy.must_end or copy.is_over or copy.assignment is None:
            return
        copy.restart_reason = ""
        if copy.assignment.spec.restart.policy is RestartPolicy.NEVER:
            # How it would have ended is not known, and it must not run twice.
            self._fail(copy, _REMOVED)
            return
        self._count_death(copy)
        self.back_off(copy, _REMOVED, EventKind.ALLOCATION_RESTARTING)

    def on_stopped(self, copy: Copy) -> None:
        """A stop that was ordered is done."""
        self._books.stop_probes(copy)
        if copy.instance is not None:
            copy.instance = msgspec.structs.replace(copy.instance, state=InstanceState.EXITED)
        copy.may_have_run = False
        if not copy.must_end and copy.assignment is not None and copy.restart_reason:
            reason, copy.restart_reason = copy.restart_reason, ""
            self._count_death(copy)
            # It was ended because it was ill: whatever it exited with then, it is no success.
            if judge_ending(copy.assignment.spec.restart, _ILL, copy.deaths) is Ending.FAIL:
                self._fail(copy, reason)
            else:
                self.back_off(copy, reason, EventKind.ALLOCATION_RESTARTING)

    def back_off(self, copy: Copy, why: str, kind: EventKind, *, at_least_s: float = 0.0) -> None:
        """Try again later, and say why and when."""
        assert copy.status is not None, f"{copy.id}: an orphan is not restarted"
        delay_s = max(at_least_s, backoff_s(copy.deaths, self._config, self._rng))
        self._books.report(
            copy,
            phase=Phase.BACKOFF,
            is_ready=False,
            reason=why,
            restarts=copy.status.restarts + 1,
            progress=None,
            endpoints=(),
            next_start_at_ms=WallMs(self._books.wall + int(delay_s * 1000)),
        )
        when = f"again in {format_duration(delay_s)}" if delay_s else "again at once"
        self._books.happened(copy, kind, f"{copy.name}: {why}; {when}", Severity.WARNING)
        copy.next_try_at = Instant(self._books.now + delay_s) if delay_s else None

    def _count_death(self, copy: Copy) -> None:
        ran_s = self._books.now - copy.launched_at if copy.launched_at is not None else 0.0
        copy.deaths = 1 if ran_s >= self._config.backoff_reset_s else copy.deaths + 1

    def _fail(self, copy: Copy, why: str) -> None:
        self._books.report(copy, phase=Phase.FAILED, is_ready=False, reason=why, endpoints=(), next_start_at_ms=None)
        message = f"{copy.name} failed for good: {why}"
        self._books.happened(copy, EventKind.ALLOCATION_FAILED, message, Severity.ERROR)
