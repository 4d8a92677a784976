"""What the end of a workload means."""

import enum
from typing import Final

from node.runtime.base import InstanceExited
from orca.model.spec import RestartPolicy, RestartSpec

_SIGNAL_BASE: Final = 128
_SIGNALS: Final = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE"}
_SIGNALS_LATE: Final = {9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 31: "SIGSYS"}

_OUT_OF_MEMORY: Final = "out of memory"


class Ending(enum.Enum):
    """What follows when a workload ended by itself."""

    RESTART = "restart"
    COMPLETE = "complete"
    FAIL = "fail"


def judge_ending(restart: RestartSpec, exit_code: int, deaths: int) -> Ending:
    """What to do after the end number `deaths` in a row with `exit_code`.

    A service (`always`) runs again whatever its exit code. A job ends with exit code 0;
    else it has failed, under `on-failure` only after `attempts_max` restarts.
    """
    if restart.policy is RestartPolicy.ALWAYS:
        return Ending.RESTART
    if exit_code == 0:
        return Ending.COMPLETE
    if restart.policy is RestartPolicy.NEVER:
        return Ending.FAIL
    if restart.attempts_max is not None and deaths > restart.attempts_max:
        return Ending.FAIL
    return Ending.RESTART


def describe_exit(exited: InstanceExited) -> str:
    """Why a workload ended, for people: `exit code 137 (SIGKILL)`."""
    if exited.is_oom_killed and exited.detail.startswith(_OUT_OF_MEMORY):
        return f"{exited.detail} (exit code {exited.exit_code})"
    number = exited.exit_code - _SIGNAL_BASE
    signal = _SIGNALS.get(number) or _SIGNALS_LATE.get(number)
    if exited.is_oom_killed:
        why = f"{_OUT_OF_MEMORY} (exit code {exited.exit_code})"
    else:
        why = f"exit code {exited.exit_code}" + (f" ({signal})" if signal else "")
    return f"{why}: {exited.detail}" if exited.detail else why
