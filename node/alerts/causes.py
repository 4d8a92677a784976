"""What an alert may come from, the likeliest first, each with what speaks for it and the command to go on with. Pure.

The rules are written down in the order of their weight: a mark in the evidence comes before what is only usual.
"""

from typing import Final

from node.alerts.findings import Finding
from orca.model.alert import AlertRule, PossibleCause

CAUSES_MAX: Final = 4
_SIGKILL, _SIGSEGV, _SIGABRT = 137, 139, 134
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127

_IMAGE_MARKS: Final = (
    (("unauthorized", "denied", "authentication required"), "the registry refuses this node", "docker login"),
    (
        ("manifest unknown", "not found", "no such image", "does not exist", "repository name"),
        "no such image or module",
        "",
    ),
    (
        ("timeout", "no such host", "connection refused", "network is unreachable", "i/o timeout", "lookup "),
        "the registry or the network cannot be reached from there",
        "orca doctor",
    ),
    (("already allocated", "already in use", "address in use"), "the host port is taken by something else", "orca ps"),
    (("no space left", "disk quota"), "the disk is full", "orca doctor"),
    (("executable file not found", "permission denied"), "the command is not in the image or may not be run", ""),
)


def possible_causes(finding: Finding) -> tuple[PossibleCause, ...]:
    """At most `CAUSES_MAX`, never none."""
    found = [*_of_marks(finding), *_of_revision(finding), *_usual(finding)]
    unlike: dict[str, PossibleCause] = {}
    for one in found:
        unlike.setdefault(one.cause, one)
    return tuple(unlike.values())[:CAUSES_MAX]


def _cause(cause: str, because: str, command: str) -> PossibleCause:
    return PossibleCause(cause=cause, because=because, command=command)


def _of_revision(finding: Finding) -> list[PossibleCause]:
    if finding.new_revision is None or finding.new_revision == 1:
        return []  # before the first there is nothing to go back to
    because = f"revision {finding.new_revision} was deployed shortly before"
    return [_cause("the new revision is at fault", because, f"orca rollback {finding.name}")]


def _of_marks(finding: Finding) -> list[PossibleCause]:
    match finding.rule:
        case AlertRule.CRASH_LOOP | AlertRule.COPY_FAILED:
            return _of_codes(finding)
        case AlertRule.START_FAILED:
            name = finding.name
            return [
                _cause(cause, "the runtime's message says so", command or f"orca history {name}")
                for marks, cause, command in _IMAGE_MARKS
                if any(mark in finding.words for mark in marks)
            ]
        case _:
            return []


def _of_codes(finding: Finding) -> list[PossibleCause]:
    name = finding.name
    codes = dict(finding.exit_codes)
    logs = f"orca logs {name} --tail 50"
    meanings = {
        0: ("the program ends by itself, and a service is kept running", f"orca history {name}"),
        _NOT_EXECUTABLE: ("the command may not be executed", f"orca history {name}"),
        _NOT_FOUND: ("the command is not in the image", f"orca history {name}"),
        _SIGKILL: ("something outside of it killed it", "orca doctor"),
        _SIGABRT: ("the program aborted itself", logs),
        _SIGSEGV: ("the program crashed on a bad memory access", logs),
    }
    found = []
    for code, _ in sorted(codes.items(), key=lambda one: -one[1]):
        meaning = meanings.get(code)
        if meaning is not None:
            found.append(_cause(meaning[0], f"exit code {code}", meaning[1]))
        else:
            found.append(_cause("the program ends with an error of its own", f"exit code {code}", logs))
    return found


def _usual(finding: Finding) -> list[PossibleCause]:
    name, rule = finding.name, finding.rule
    logs = f"orca logs {name} --tail 50"
    usual: dict[AlertRule, tuple[tuple[str, str, str], ...]] = {
        AlertRule.CRASH_LOOP: (("its health checks end it", "it was restarted", f"orca events --service {name}"),),
        AlertRule.OUT_OF_MEMORY: (
            ("its memory limit is lower than what it needs", "it was killed for want of memory", f"orca stats {name}"),
            ("it keeps more and more memory", "it was killed for want of memory", logs),
        ),
        AlertRule.START_FAILED: (
            ("the runtime refuses it", "it could not be started", f"orca events --service {name}"),
        ),
        AlertRule.UNHEALTHY: (
            ("the program does not answer, or with an error", "its health checks fail", logs),
            ("it is slower than its probe allows", "its health checks fail", f"orca stats {name}"),
        ),
        AlertRule.ROLLOUT_FAILED: (
            ("its new copies did not become healthy", "the rollout failed", logs),
            ("there is no room for its new copies", "the rollout failed", f"orca why {name}"),
        ),
        AlertRule.COPY_FAILED: (("its work failed", "it failed for good", logs),),
        AlertRule.RUNTIME_DOWN: (("its engine is stopped or hangs", "it was not available", "orca doctor"),),
        AlertRule.STORE_FULL: (("the disk or the store's map is full", "it took no writes", "orca doctor"),),
        AlertRule.NODE_FAILED: (
            ("the computer or its node is down", "it did not answer", "orca doctor"),
            ("the network between the nodes is cut", "it did not answer", "orca nodes"),
        ),
        AlertRule.MEMORY_PRESSURE: (
            ("its memory limit is lower than what it needs", "it is near its limit", f"orca stats {name} --since 1h"),
            ("it keeps more and more memory", "it is near its limit", f"orca stats {name} --since 7d"),
        ),
        AlertRule.ERROR_SURGE: (
            ("the program fails, or something that it needs does", "it answers with errors", logs),
            ("its copies do not answer at all", "the proxy answers for it", f"orca ps {name}"),
        ),
        AlertRule.SLOW_ANSWERS: (
            ("it has more to do than it can", "its answers take long", f"orca stats {name} --since 1h"),
            ("something that it needs is slow", "its answers take long", logs),
        ),
        AlertRule.QUEUE_FULL: (
            ("no copy of it is ready", "requests wait for one", f"orca ps {name}"),
            ("it has too few copies", "requests wait for one", f"orca why {name}"),
        ),
        AlertRule.NODE_MEMORY: (
            ("its copies use more than was reserved for them", "its memory is nearly used", "orca stats --since 1h"),
            ("other programs use it", "its memory is nearly used", "orca doctor"),
        ),
        AlertRule.DISK_PRESSURE: (
            ("images, volumes or logs fill it", "little of it is free", "orca stats --since 7d --nodes"),
        ),
        AlertRule.STORE_PRESSURE: (("the store's map is too small", "it is nearly full", "orca doctor"),),
        AlertRule.CLOCK_SKEW: (("its time is not kept by NTP", "the clocks differ", "orca doctor"),),
        AlertRule.CERTIFICATE_ENDS: (
            ("it could not be renewed, as nothing could be decided", "it was not renewed", "orca quorum"),
            ("the node was away for long", "it was not renewed", "orca doctor"),
        ),
        AlertRule.NODE_FLAPPING: (
            ("its network loses packets, or it is overloaded", "it came and went", "orca doctor"),
        ),
    }
    if rule is AlertRule.CRASH_LOOP and sum(count for _, count in finding.exit_codes) >= finding.count:
        return []  # every restart followed an end of its own
    return [_cause(*one) for one in usual[rule]]
