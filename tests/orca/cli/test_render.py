"""What people read, line by line; nothing is wider than 80 columns."""

import io

import msgspec
import pytest

from orca.cli import diff, progress, render
from orca.cli.console import Console, cut_painted, error_lines
from orca.cli.text import width_of
from orca.commands.changes import ChangeOutcome
from orca.commands.progress import Accepted, BuildLine, Reconnecting, Waiting
from orca.commands.ps import CopyList
from orca.commands.rollout import Goal, GoalKind, Rollout
from orca.commands.waiting import WaitOutcome
from orca.errors import InvalidSpecError, Problem
from orca.model.allocation import Phase, PrepareProgress
from orca.model.holding import LeaseView, LockView
from orca.model.ids import AllocationId, LeaseEpoch, ProjectName, ServiceId, SpecRevision
from orca.model.units import WallMs
from orca.model.view import (
    ChangeAction,
    FieldChange,
    PlacementPreview,
    PlanReply,
    RolloutState,
    ServiceChange,
    ServicePlan,
    StatsReply,
    StatsView,
)
from tests.orca.commands.views import NODE, NOW_MS, OBSERVATION, copy, example_services, service, status

WEB = ServiceId("default/web")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def plain(**settings: bool) -> Console:
    return Console(out=io.StringIO(), err=io.StringIO(), environ={}, **settings)


def text_of(stream: object) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def lines_of(console: Console) -> list[str]:
    lines = text_of(console.out).splitlines()
    assert all(width_of(line) <= 80 for line in lines), lines
    return lines


def test_status_shows_cluster_services_and_nodes() -> None:
    console = plain()
    render.status(status(*example_services()), console)
    assert lines_of(console) == [
        "cluster c-abc · 1 node · leader alpha · seen by alpha, now",
        "",
        "NAME                  RUNTIME  READY  REV  STATE      ROUTES                 AGE",
        "web                   docker     1/2    3  degraded   example.com, */api      1h",
        "shop/a-job-with-a-v…  docker     0/1    1  completed  a0.example.com, a1.e…   1h",
        "! web.2 backoff: exit code 1, next try in 4s",
        "",
        "NODE   ROLE    COPIES  CPU   MEMORY  RUNTIMES  INGRESS    AGE",
        "alpha  leader       3    4  8.0 GiB  wasm      :8080    1m30s",
        "! alpha docker: no engine answers",
        "! alpha port 80 may not be bound",
    ]


def test_status_says_who_holds_leases_and_who_holds_back_deploys() -> None:
    console = plain()
    web, job = example_services()
    lease = LeaseView(allocation=AllocationId("c1"), node=NODE, fence=LeaseEpoch(18), node_name="alpha")
    lock = LockView(
        id="l1", project=ProjectName("shop"), holder="ann", since_ms=WallMs(NOW_MS - 60_000), note="migration"
    )
    reply = msgspec.structs.replace(status(msgspec.structs.replace(web, lease=lease), job), locks=(lock,))
    render.status(reply, console)
    lines = lines_of(console)
    assert "web: lease 18 is held by c1 on alpha" in lines
    assert "! deploys to project shop are locked by ann since 1m ago (migration)" in lines


def test_ps_shows_the_fence_of_a_copy_that_has_one() -> None:
    console = plain()
    copies = (copy("web", ready=True, fence=LeaseEpoch(18)),)
    render.copies(CopyList(observation=OBSERVATION, allocations=copies, hidden=0), console)
    head, row = lines_of(console)
    assert head.split()[-1] == "FENCE"
    assert row.split()[-1] == "18"


def test_status_says_when_there_is_no_leader() -> None:
    console = plain()
    render.status(status(leader=None), console)
    assert "no leader" in lines_of(console)[0]
    assert "no services" in text_of(console.out)


def test_why_lines_are_few() -> None:
    copies = [copy("web", slot, phase=Phase.BACKOFF, reason="x") for slot in range(6)]
    lines = render.why_lines(service("web", *copies, state=RolloutState.FAILED, message="gave up"), NOW_MS)
    assert len(lines) == 4
    assert lines[0] == "! web: revision 1 failed: gave up"
    assert lines[-1] == "  … and 4 more, see orca ps web"


def test_ps_shows_every_copy_and_its_reason() -> None:
    console = plain()
    web, job = example_services()
    render.copies(CopyList(observation=OBSERVATION, allocations=(*web.allocations, *job.allocations)), console)
    assert lines_of(console) == [
        "ID            SERVICE        SLOT  REV  STATE      RESTARTS   AGE  ENDPOINT",
        "web0r3aaaaaa  web               1    3  ready                1m5s  172.18.0.2:80",
        "web1r3aaaaaa  web               2    3  backoff           4  1m5s",
        "shopa-job-wi  shop/a-job-w…     1    1  completed            1m5s",
        "! web.2 exit code 1, next try in 4s",
    ]


def test_ps_keeps_short_reasons_in_the_table() -> None:
    console = plain()
    found = CopyList(observation=OBSERVATION, allocations=(copy("web", phase=Phase.FAILED, reason="exit code 1"),))
    render.copies(found, console)
    assert lines_of(console) == [
        "ID            SERVICE  SLOT  REV  STATE    AGE  REASON",
        "web0r1aaaaaa  web         1    1  failed  1m5s  exit code 1",
    ]


def test_stats_say_what_could_not_be_asked() -> None:
    console = plain()
    stats = StatsView(allocation=AllocationId("a"), service=WEB, slot=0, cpu_milli=250, memory_bytes=5 << 20)
    asked = msgspec.structs.replace(stats, slot=1, problem="Docker does not answer")
    render.stats(StatsReply(observation=OBSERVATION, stats=(stats, asked)), console)
    assert lines_of(console) == [
        "COPY    CPU   MEMORY   IN  OUT  PROBLEM",
        "web.1  0.25  5.0 MiB  0 B  0 B",
        "web.2                           Docker does not answer",
    ]


def test_plan_shows_each_field_and_what_follows() -> None:
    console = plain()
    long = '"' + "x" * 90 + '"'
    update = ServicePlan(
        service=WEB,
        action=ChangeAction.UPDATE,
        fields=(
            FieldChange(key="replicas", before="1", after="3"),
            FieldChange(key="env.A", before="", after='"1"'),
            FieldChange(key="env.B", before='"2"', after=""),
            FieldChange(key="source.image", before='"web:1"', after=long),
        ),
        replaces_copies=True,
        placements=(
            PlacementPreview(node=NODE, copies=2, node_name="box"),
            PlacementPreview(node=None, copies=1, reason="no node has 64 GiB of memory free"),
        ),
    )
    nothing = ServicePlan(service=ServiceId("shop/api"), action=ChangeAction.NOTHING)
    diff.plan(PlanReply(observation=OBSERVATION, services=(update, nothing)), console)
    assert lines_of(console) == [
        "~ web would be updated",
        "    ~ replicas: 1 → 3",
        '    + env.A: "1"',
        '    - env.B: "2"',
        "    ~ source.image:",
        '      - "web:1"',
        '      + "' + "x" * 71,
        "        " + "x" * 19 + '"',
        "    copies are replaced, start-first unless the spec says otherwise",
        "    2 copies on box",
        "    1 copy on no node: no node has 64 GiB of memory free",
        "",
        "= shop/api unchanged",
        "0 to create, 1 to update, 0 to remove, 1 unchanged; nothing was changed",
    ]


def test_json_is_one_document_and_progress_is_silent() -> None:
    console = plain(as_json=True)
    view = progress.ProgressView(console)
    view(Accepted(changes=(ServiceChange(service=WEB, action=ChangeAction.CREATE, revision=SpecRevision(1)),)))
    console.data(status(*example_services()))
    assert msgspec.json.decode(text_of(console.out))["cluster"] == "c-abc"
    assert text_of(console.out).count("\n") == 1
    assert text_of(console.err) == ""


def step_of(*looks: object) -> Waiting:
    machine = Rollout((Goal(service=WEB, kind=GoalKind.HEALTHY, revision=SpecRevision(1)),))
    step = None
    for look in looks:
        step = machine.observe(look)  # type: ignore[arg-type]
    assert step is not None
    return Waiting(step=step)


def test_plain_progress_says_each_thing_once() -> None:
    console = plain()
    view = progress.ProgressView(console)
    machine = Rollout((Goal(service=WEB, kind=GoalKind.HEALTHY, revision=SpecRevision(1)),))
    pull = [PrepareProgress(step="pull", current=number, total=1000) for number in range(0, 1000, 10)]
    looks = [copy("web", phase=Phase.PREPARING, progress=one) for one in pull]
    looks += [copy("web", phase=Phase.BACKOFF, reason="died"), copy("web"), copy("web")]
    looks += [copy("web", phase=Phase.BACKOFF, reason="died"), copy("web", ready=True)]
    for look in looks:
        view(Waiting(step=machine.observe([service("web", look)])))
    lines = text_of(console.err).splitlines()
    assert len([line for line in lines if "preparing" in line]) == 10
    assert lines.count("web.1 backoff (died)") == 1
    assert lines[-1] == "web.1 ready"
    assert text_of(console.out) == ""


def test_a_node_that_is_away_is_said_once() -> None:
    console = plain()
    view = progress.ProgressView(console)
    view(Reconnecting(reason="gone"))
    view(Reconnecting(reason="gone"))
    view(BuildLine(tag="t", text="Step 1\x1b[2J"))
    assert text_of(console.err).splitlines() == ["gone; what runs goes on, trying again", "  Step 1 [2J"]


def test_a_terminal_is_redrawn_in_place() -> None:
    console = Console(out=Terminal(), err=Terminal(), environ={"TERM": "xterm", "COLUMNS": "80"})
    view = progress.ProgressView(console)
    pulling = copy("web", phase=Phase.PREPARING, progress=PrepareProgress(step="pull", current=1 << 20, total=4 << 20))
    view(step_of([service("web", pulling)]))
    first = text_of(console.err)
    assert "pull █████░░░░░░░░░░░░░░░  25 % 1.0 MiB of 4.0 MiB" in first
    view(step_of([service("web", copy("web", ready=True), state=RolloutState.COMPLETED)]))
    assert text_of(console.err)[len(first) :].startswith("\x1b[2A\x1b[J")
    assert "✓ web is healthy, 1/1 ready" in text_of(console.err)


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}, {}])
def test_terminals_that_want_no_colour_get_none(environ: dict[str, str]) -> None:
    console = Console(out=Terminal(), err=Terminal(), environ=environ)
    console.line("x", "red")
    console.problem("y", "red")
    assert "\x1b" not in text_of(console.out) + text_of(console.err)


def test_a_failed_deploy_says_which_copy_why_and_its_last_lines() -> None:
    console = plain()
    bad = copy("web", 1, 2, phase=Phase.BACKOFF, reason="exit code 1", restarts=5)
    view = service(
        "web",
        copy("web", 0, 1, ready=True),
        bad,
        revision=2,
        state=RolloutState.FAILED,
        message="web.2 does not stay up",
    )
    machine = Rollout((Goal(service=WEB, kind=GoalKind.HEALTHY, revision=SpecRevision(2)),))
    verdict = machine.observe([view]).verdict
    assert verdict is not None
    wait = WaitOutcome(services=(view,), failures=verdict.failures, logs={bad.id: ("boom", "bye")})
    progress.failures(wait, console)
    assert text_of(console.err).splitlines() == [
        "error: web: web.2 does not stay up",
        "  web.2 (web1r2aaaaaa) backoff: exit code 1 (5 restarts)",
        "    | boom",
        "    | bye",
        "  revision 1 keeps serving",
        "hint: orca ps web; orca logs web; orca rollback web",
    ]
    error = wait.error()
    assert error is not None
    assert error.exit_code == 1
    change = ServiceChange(service=WEB, action=ChangeAction.UPDATE, revision=SpecRevision(2))
    progress.summary(ChangeOutcome(changes=(change,), wait=wait), console, 1.0)
    assert text_of(console.out) == ""


def test_a_job_is_told_by_its_completed_copies() -> None:
    console = plain()
    job = service("web", copy("web", phase=Phase.COMPLETED), is_job=True, state=RolloutState.COMPLETED)
    change = ServiceChange(service=WEB, action=ChangeAction.CREATE, revision=SpecRevision(1))
    progress.summary(ChangeOutcome(changes=(change,), wait=WaitOutcome(services=(job,))), console, 1.0)
    assert text_of(console.out) == "web completed 1/1, revision 1\n"


def test_all_problems_of_a_file_are_listed() -> None:
    problems = (
        Problem(message="unknown key", file="a.toml", line=3, key="service[0].imag", allowed="image"),
        Problem(message="no amount", file="a.toml", line=9, key="memory"),
    )
    assert error_lines(InvalidSpecError("2 problems", problems=problems, hint="see the manual")) == [
        "error: 2 problems",
        "  a.toml:3: service[0].imag: unknown key (allowed: image)",
        "  a.toml:9: memory: no amount",
        "hint: see the manual",
    ]


def test_painted_texts_are_cut_by_what_is_seen() -> None:
    assert cut_painted("\x1b[31mred\x1b[0m", 3) == "\x1b[31mred\x1b[0m"
    assert cut_painted("\x1b[31mredder\x1b[0m", 4) == "red…"
