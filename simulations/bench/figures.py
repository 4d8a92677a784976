"""What figures cost: `python -m simulations.bench.figures`.

A node with 10,000 series notes all of them every second, looks whether any has gone too far, and once a minute packs
and writes them. The limit is a loop that looks at 10,000 values and does nothing with them.

Two cores, busy with other things:

    what                                        result              goal
    10,000 series looked at every second        0.08 % of a core    <= 5 %   (an empty loop: 0.02 %)
    and noted, packed and written               0.5 % of a core     <= 5 %
    to write a minute of them, in a thread      80 ms
    the minute that is noted, in memory         5 MB
"""

import gc
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from node.figures.minutes import Minute, Recorder
from node.figures.store import SeriesStore
from node.figures.subjects import copy_subject
from node.figures.thresholds import FIGURE_RULES, Watch
from node.store.directory import DataDirectory
from node.store.environment import Environment
from orca.model.ids import AllocationId, ServiceId
from orca.model.units import Instant
from simulations.bench.report import Line, say, show

SERIES: Final = 10_000
SECONDS: Final = 120
GOAL_PERCENT: Final = 5.0
BAD: Final = 100
"""So many series are beyond their threshold, now on this and now on that side of the hold."""
_EACH: Final = SERIES // len(FIGURE_RULES)


def _subjects() -> list[str]:
    return [
        copy_subject(ServiceId(f"default/s{number % 100}"), number, AllocationId(f"{number:012d}"))
        for number in range(_EACH)
    ]


def _good(figure: str) -> float:
    rule = next(one for one in FIGURE_RULES if one.figure == figure)
    return rule.clear * (2 if rule.is_low else 0.5)


def _values(subjects: list[str], second: int) -> dict[str, dict[str, float]]:
    """Of that second; a few are bad for 90 s out of 100."""
    watched = {rule.figure: dict.fromkeys(subjects, _good(rule.figure)) for rule in FIGURE_RULES}
    for number in range(BAD):
        rule = FIGURE_RULES[number % len(FIGURE_RULES)]
        if (second + number) % 100 < 90:
            watched[rule.figure][subjects[number]] = rule.warn
    return watched


def _looked() -> tuple[float, float, int]:
    """Processor time a second for all rules over all series, for the bare loop; and how much was told."""
    subjects, watch = _subjects(), Watch()
    spent = bare = 0.0
    told = 0
    for second in range(SECONDS):
        watched = _values(subjects, second)
        began = time.process_time()
        told += len(watch.step(watched, Instant(float(second))))
        ended = time.process_time()
        for values in watched.values():
            for _, _ in values.items():
                pass
        bare += time.process_time() - ended
        spent += ended - began
    return spent / SECONDS, bare / SECONDS, told


def _noted() -> tuple[float, Minute]:
    """Processor time a second to note 10,000 values, and a whole minute of them."""
    recorder = Recorder()
    flat = {f"memory_bytes {subject} {number}": 1.5e8 for number in range(10) for subject in _subjects()}
    spent = 0.0
    for second in range(60):
        flat = {name: value + 4096.0 for name, value in flat.items()}
        began = time.process_time()
        recorder.record(second, flat)
        spent += time.process_time() - began
    found = recorder.minute()
    assert found is not None
    return spent / 60, found


def _written(minute: Minute) -> float:
    """Processor time of packing and writing a minute."""
    with (
        tempfile.TemporaryDirectory(prefix="orca-bench-") as made,
        DataDirectory.open(Path(made) / "data") as directory,
        Environment.open(directory) as environment,
    ):
        store = SeriesStore(environment)
        began = time.process_time()
        store.write(minute)
        return time.process_time() - began


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def _memory() -> float:
    """What a minute of 10,000 series takes, in a process of its own."""
    code = "from simulations.bench import figures; print(figures.resident())"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def resident() -> float:
    """MB by which this process grows."""
    gc.collect()
    before = _resident_mb()
    _, minute = _noted()
    assert minute.series
    gc.collect()
    return _resident_mb() - before


def main() -> list[Line]:
    """Looking, noting, writing, keeping."""
    looked_s, bare_s, told = _looked()
    say(f"figures: {told} changes were told")
    noted_s, minute = _noted()
    written_s = _written(minute)
    whole_percent = (looked_s + noted_s + written_s / 60) * 100
    return [
        Line(bench="figures", what=f"{SERIES:,} series looked at every second", unit="% of a core",
             result=looked_s * 100, limit=bare_s * 100, limit_name="(an empty loop)", goal=GOAL_PERCENT,
             is_goal_of_ratio=False),
        Line(bench="figures", what="and noted, packed and written", unit="% of a core", result=whole_percent,
             goal=GOAL_PERCENT, is_goal_of_ratio=False),
        Line(bench="figures", what="to write a minute of them, in a thread", unit="ms", result=written_s * 1000),
        Line(bench="figures", what="the minute that is noted, in memory", unit="MB", result=_memory()),
    ]  # fmt: skip


if __name__ == "__main__":
    show(main())
