"""Progress of a change: redrawn in place on a terminal, one plain line a piece of news elsewhere."""

from typing import TYPE_CHECKING, Final

from orca.cli.render import PHASE_STYLES
from orca.cli.text import clean, cut, paint
from orca.commands.names import slot_name
from orca.commands.progress import (
    Accepted,
    BlobUploaded,
    BuildLine,
    BuildStarted,
    Progress,
    Reconnecting,
    SpecWarning,
    Waiting,
)
from orca.commands.rollout import CopyChanged, GoalKind, ServiceProgress
from orca.model.allocation import Phase
from orca.model.ids import display_name
from orca.model.units import format_bytes, format_duration
from orca.model.view import ChangeAction, RolloutState, ServiceChange

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.commands.changes import ChangeOutcome
    from orca.commands.waiting import WaitOutcome
    from orca.model.allocation import PrepareProgress
    from orca.model.view import AllocationView, ServiceView

BAR_CELLS: Final = 20
SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PAST_TENSE: Final = {
    ChangeAction.CREATE: "created",
    ChangeAction.UPDATE: "updated",
    ChangeAction.REMOVE: "removed",
    ChangeAction.NOTHING: "unchanged",
}


def change_text(change: ServiceChange) -> str:
    """What was done to one service, in words."""
    at = "" if change.action is ChangeAction.REMOVE else f" (revision {change.revision})"
    return f"{display_name(change.service)} {PAST_TENSE[change.action]}{at}"


def bar(progress: "PrepareProgress") -> str:
    """How far a pull or a compilation is."""
    if not progress.total:
        done = f" {format_bytes(progress.current)}" if progress.current else ""
        return clean(progress.step) + done
    share = min(progress.current / progress.total, 1.0)
    filled = round(share * BAR_CELLS)
    cells = "█" * filled + "░" * (BAR_CELLS - filled)
    amount = f"{format_bytes(progress.current)} of {format_bytes(progress.total)}" if progress.total >= 1024 else ""
    return f"{clean(progress.step)} {cells} {share * 100:3.0f} % {amount}".rstrip()


class ProgressView:
    """A `Report` that shows what it is told."""

    def __init__(self, console: "Console") -> None:
        self.console = console
        self._frame = 0
        self._said: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set()

    def __call__(self, news: Progress) -> None:
        """Show one piece of news."""
        match news:
            case Waiting(step=step):
                self._waiting(step.services, step.changes)
            case Accepted(changes=changes):
                for change in changes:
                    self.console.note(change_text(change), "bold")
            case BlobUploaded(digest=digest, bytes_total=size, is_new=is_new):
                if is_new:
                    self.console.note(f"uploaded {digest[:19]}, {format_bytes(size)}", "dim")
            case BuildStarted(tag=tag, context=context):
                self.console.note(f"building {clean(tag)} from {clean(context)}", "bold")
            case BuildLine(text=text):
                self.console.note("  " + clean(text), "dim")
            case SpecWarning(text=text):
                self.console.note(f"warning: {clean(text)}", "yellow")
            case Reconnecting(reason=reason):
                self._say_once("node", f"{clean(reason)}; what runs goes on, trying again")

    def finish(self) -> None:
        """Take the redrawn block away."""
        self.console.clear_live()

    def _say_once(self, key: str, text: str) -> None:
        if self._said.get(key) != text:
            self._said[key] = text
            self.console.note(text, "yellow")

    def _waiting(self, services: tuple[ServiceProgress, ...], changes: tuple[CopyChanged, ...]) -> None:
        self._said.pop("node", None)
        if self.console.is_quiet or self.console.as_json:
            return
        if self.console.is_live:
            self._frame += 1
            self.console.live(self.live_lines(services))
            return
        for change in changes:
            # A pull reports many times a second: in plain lines each tenth is enough.
            text = copy_line(change, is_coloured=False)
            # A copy that is tried again and again says each thing once; only its readiness is always news.
            if change.phase is Phase.RUNNING or (change.allocation, _coarse(change)) not in self._told:
                self._told.add((change.allocation, _coarse(change)))
                self._say_plain(change.allocation, text, _coarse(change))
        for progress in services:
            if progress.message and not progress.is_settled:
                self._say_plain(
                    progress.goal.service, f"{display_name(progress.goal.service)}: {clean(progress.message)}"
                )

    def _say_plain(self, key: str, text: str, identity: str = "") -> None:
        if self._said.get(key) != (identity or text):
            self._said[key] = identity or text
            self.console.note(cut(text, 240))

    def live_lines(self, services: tuple[ServiceProgress, ...]) -> list[str]:
        """The block that is redrawn: a line a service, a line a copy that is on its way."""
        is_coloured = self.console.is_error_coloured
        lines = []
        for progress in services:
            lines.append(self._service_line(progress, is_coloured))
            if progress.view is None or progress.is_done:
                continue
            shown = [
                copy
                for copy in progress.view.allocations
                if copy.phase not in (Phase.STOPPED, Phase.COMPLETED)
                and (copy.revision == progress.goal.revision or copy.phase is Phase.STOPPING)
            ]
            lines += [
                "  " + copy_line(_change_of(copy), is_coloured=is_coloured)
                for copy in sorted(shown, key=lambda copy: (copy.slot, copy.revision))
            ]
        return lines

    def _service_line(self, progress: ServiceProgress, is_coloured: bool) -> str:
        name = display_name(progress.goal.service)
        if progress.failure is not None:
            return paint(f"✗ {name} {clean(progress.failure.message)}", "red", is_coloured=is_coloured)
        if progress.is_done:
            return paint(f"✓ {name} {done_text(progress)}", "green", is_coloured=is_coloured)
        mark = SPINNER[self._frame % len(SPINNER)]
        view = progress.view
        count = f" {view.ready}/{view.replicas} ready" if view and progress.goal.kind is GoalKind.HEALTHY else ""
        why = f" · {clean(progress.message)}" if progress.message else ""
        return f"{mark} {name}{count}{why}"


def done_text(progress: ServiceProgress) -> str:
    """How a reached goal is told."""
    view = progress.view
    if progress.goal.kind is GoalKind.GONE or view is None:
        return "is gone"
    if view.is_stopped:
        return "is stopped"
    if view.is_job:
        done = sum(copy.phase is Phase.COMPLETED for copy in view.allocations)
        return f"completed {done}/{view.replicas}"
    if view.rollout.is_paused:
        return "is paused"
    if view.rollout.state is RolloutState.AWAITING:
        return "waits to be promoted"
    return f"is healthy, {view.ready}/{view.replicas} ready"


def _waiting_line(view: "ServiceView") -> str:
    """What a rollout waits for that only a person can do; empty when there is nothing."""
    if view.rollout.is_paused:
        return f"is paused; `orca resume {display_name(view.id)}` goes on"
    return f"waits to be promoted: {view.rollout.message}" if view.rollout.state is RolloutState.AWAITING else ""


def copy_line(change: CopyChanged, *, is_coloured: bool) -> str:
    """One copy: slot, state, how far it is, why."""
    state = change.phase.value
    style = PHASE_STYLES[change.phase]
    if change.phase is Phase.RUNNING:
        state, style = ("ready", "green") if change.is_ready else ("running, not ready", "yellow")
    parts = [f"{display_name(change.service)}.{change.slot + 1}", paint(state, style, is_coloured=is_coloured)]
    if change.phase is Phase.PREPARING and change.progress is not None:
        parts.append(bar(change.progress))
    if change.reason:
        parts.append(f"({clean(change.reason)})")
    return " ".join(parts)


def _coarse(change: CopyChanged) -> str:
    progress = change.progress
    tenth = progress.current * 10 // progress.total if progress is not None and progress.total else 0
    step = progress.step if progress is not None else ""
    return f"{change.phase.value} {change.is_ready} {change.reason} {step if tenth else ''} {tenth}"


def _change_of(copy: "AllocationView") -> CopyChanged:
    return CopyChanged(
        service=copy.service,
        slot=copy.slot,
        allocation=copy.id,
        revision=copy.revision,
        phase=copy.phase,
        is_ready=copy.is_ready,
        reason=copy.reason,
        restarts=copy.restarts,
        progress=copy.progress,
    )


def summary(outcome: "ChangeOutcome", console: "Console", elapsed_s: float) -> None:
    """The result of a change: a line a service, after success."""
    if outcome.wait is None:
        for change in outcome.changes:
            console.line(change_text(change))
        console.note("not waiting; follow it with: orca status", "dim")
        return
    views = {view.id: view for view in outcome.wait.services}
    failed = {failure.service for failure in outcome.wait.failures}
    for change in outcome.changes:
        if change.service in failed:
            continue
        view = views.get(change.service)
        if change.action is ChangeAction.REMOVE or view is None:
            console.line(f"{display_name(change.service)} is gone", "green")
            continue
        if not view.is_stopped and (waiting := _waiting_line(view)):
            console.line(f"{display_name(view.id)} {clean(waiting)}, revision {view.revision}", "yellow")
            continue
        if view.is_stopped:
            text = "is stopped"
        elif view.ready < view.replicas and not view.is_job:
            text = f"is rolled out, but only {view.ready}/{view.replicas} are ready"
            console.line(f"{display_name(view.id)} {text}, revision {view.revision}", "yellow")
            continue
        elif view.is_job:
            done = sum(copy.phase is Phase.COMPLETED for copy in view.allocations)
            text = f"completed {done}/{view.replicas}"
        else:
            text = f"is healthy, {view.ready}/{view.replicas} ready"
        console.line(f"{display_name(view.id)} {text}, revision {view.revision}", "green")
    for silent in outcome.wait.silent:
        console.note(f"warning: {clean(silent.name)} may not serve it yet: {clean(silent.reason)}", "yellow")
    if not failed:
        console.note(f"done in {format_duration(elapsed_s)}", "dim")


def failures(wait: "WaitOutcome", console: "Console") -> None:
    """Which copies are not healthy, why, their last lines, and what serves instead."""
    for failure in wait.failures:
        console.problem(f"error: {display_name(failure.service)}: {clean(failure.message)}", "red bold")
        for copy in failure.unhealthy[:3]:
            reason = f": {clean(copy.reason)}" if copy.reason else ""
            restarts = f" ({copy.restarts} restarts)" if copy.restarts and "restart" not in copy.reason else ""
            console.problem(f"  {slot_name(copy)} ({copy.id}) {copy.phase.value}{reason}{restarts}", "yellow")
            for line in wait.logs.get(copy.id, ()):
                console.problem(f"    | {clean(line)}")
        hidden = len(failure.unhealthy) - 3
        if hidden > 0:
            console.problem(f"  … and {hidden} more copies")
        if failure.serving is not None:
            console.problem(f"  revision {failure.serving} keeps serving")
        name = display_name(failure.service)
        way_back = f"; orca rollback {name}" if failure.serving is not None else ""
        console.problem(f"hint: orca ps {name}; orca logs {name}{way_back}")
