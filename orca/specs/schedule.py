"""When something runs by the calendar: the five fields of cron in a time zone, and the `schedule` of a service. Pure.

`minute hour day-of-month month day-of-week`, each `*`, a number, a range `1-5`, a step `*/5` or `1-9/2`, or a list of
these; months and days also by their English names; `@hourly @daily @weekly @monthly @yearly`. Where both days are
given one of them is enough, as cron has it.

*Changes of the clocks.* A time that does not exist, because the clocks go forward, is as much later as they go. A time
that comes twice counts the first time only, unless every hour is meant: then the hour that comes twice is two hours.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from orca.model.ids import ServiceName
from orca.model.spec import MissedRun, OverlapPolicy, ScheduleSpec, ServiceSpec
from orca.model.units import WallMs
from orca.specs.findings import Fault
from orca.specs.section import Item, Section

NAME_CHARS_MAX: Final = 50
"""Of a service with a schedule: the names of its runs end in 13 characters more."""
_DAYS_AHEAD: Final = 366 * 9
"""The longest way to the next day that there is: a 29 February over a year without one."""
_SHIFT_HOURS: Final = 2
"""Clocks are changed by no more."""
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SHORT: Final = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_PART: Final = re.compile(r"(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d{1,4}))?")
_EXAMPLE: Final = 'five fields, for example "*/5 * * * *" or "0 3 * * mon-fri", or @daily'


class Cron(msgspec.Struct, frozen=True, kw_only=True):
    """The values that each field allows. `weekdays` counts from Sunday, 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    is_any_day: bool
    is_any_weekday: bool

    def has_day(self, day: date) -> bool:
        """Whether it runs on that day."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.is_any_day or self.is_any_weekday:
            return by_month and by_week
        return by_month or by_week


@lru_cache(maxsize=1024)
def parse_cron(text: str) -> Cron:
    """`text` as sets of values. Raises ValueError saying what is wrong."""
    fields = _SHORT.get(text.strip().lower(), text).lower().split()
    if len(fields) != 5:
        raise ValueError(f"a schedule has five fields, this one has {len(fields)}")
    minutes = _field(fields[0], "minute", 0, 59)
    hours = _field(fields[1], "hour", 0, 23)
    days = _field(fields[2], "day of the month", 1, 31)
    months = _field(fields[3], "month", 1, 12, _MONTHS)
    weekdays = _field(fields[4], "day of the week", 0, 7, _DAYS)
    return Cron(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        is_any_day=fields[2].startswith("*"),
        is_any_weekday=fields[4].startswith("*"),
    )


def _field(text: str, what: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is no {what}")
        first, last = low, high
        if match["low"] is not None:
            first = last = _number(match["low"], what, low, high, names)
            if match["high"] is not None:
                last = _number(match["high"], what, low, high, names)
            elif match["step"] is not None:
                last = high
        step = int(match["step"] or 1)
        if step < 1 or last < first:
            raise ValueError(f"{part!r} is no {what}: it names nothing")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, what: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise ValueError(f"{text!r} is no {what}: {low} to {high} is right")
    return int(text)


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """The time zone called `name`. Raises ValueError for one that this computer does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone that this computer knows") from error


def _instants(cron: Cron, zone: ZoneInfo, day: date, hour: int) -> Iterator[int]:
    """The moments of one hour of a day of the calendar, in milliseconds; not sorted, some perhaps twice."""
    folds = (0, 1) if len(cron.hours) == 24 else (0,)
    for minute in cron.minutes:
        for fold in folds:
            local = datetime.combine(day, time(hour, minute, fold=fold), zone)
            yield int(local.timestamp()) * 1000
            if local.utcoffset() == local.replace(fold=1 - fold).utcoffset():
                break  # it comes once


def _nearest(cron: Cron, zone: ZoneInfo, day: date, hours: Iterable[int], is_meant: Callable[[int], bool]) -> list[int]:
    """What is meant of the first of `hours` that has some, and of those whose moments may come before it yet."""
    found: list[int] = []
    first = 0
    for hour in hours:
        if found and abs(hour - first) > _SHIFT_HOURS:
            break
        meant = [one for one in _instants(cron, zone, day, hour) if is_meant(one)]
        first = hour if meant and not found else first
        found += meant
    return found


def next_after(schedule: ScheduleSpec, after_ms: int) -> WallMs | None:
    """The first moment after `after_ms`; None for a day that never comes. Raises ValueError as the parsers do."""
    cron, zone = parse_cron(schedule.cron), zone_of(schedule.time_zone)
    after = datetime.fromtimestamp(after_ms / 1000, zone)
    hours = [hour for hour in cron.hours if hour >= after.hour - _SHIFT_HOURS]
    for ahead in range(_DAYS_AHEAD):
        day = after.date() + timedelta(days=ahead)
        if cron.has_day(day):
            found = _nearest(cron, zone, day, hours if not ahead else cron.hours, lambda one: one > after_ms)
            if found:
                return WallMs(min(found))
    return None


def latest_until(schedule: ScheduleSpec, after_ms: int, until_ms: int) -> WallMs | None:
    """The last moment after `after_ms` that is not after `until_ms`, if there is one. Raises as `next_after`."""
    cron, zone = parse_cron(schedule.cron), zone_of(schedule.time_zone)
    until, first = (datetime.fromtimestamp(one / 1000, zone) for one in (until_ms, after_ms))
    hours = [hour for hour in reversed(cron.hours) if hour <= until.hour + _SHIFT_HOURS]
    day = until.date()
    while day >= first.date():
        if cron.has_day(day):
            found = _nearest(cron, zone, day, hours, lambda one: after_ms < one <= until_ms)
            if found:
                return WallMs(max(found))
        day -= timedelta(days=1)
        hours = list(reversed(cron.hours))
    return None


def run_name(service: ServiceName, instant_ms: int) -> ServiceName:
    """What the run of that moment is called: `backup-202603290100`, in UTC."""
    return ServiceName(f"{service}-{datetime.fromtimestamp(instant_ms / 1000, UTC):%Y%m%d%H%M}")


def instant_of(service: ServiceName, run: ServiceName) -> WallMs | None:
    """The moment that `run` of `service` stands for; None when it is none of its runs."""
    stem, _, digits = run.rpartition("-")
    if stem != service or not re.fullmatch(r"[0-9]{12}", digits):
        return None
    try:
        moment = datetime(
            int(digits[:4]), int(digits[4:6]), int(digits[6:8]), int(digits[8:10]), int(digits[10:]), tzinfo=UTC
        )
    except ValueError:
        return None
    return WallMs(int(moment.timestamp()) * 1000)


def read_schedule(item: Item) -> ScheduleSpec | None:
    """`"0 3 * * *"`, or a table with `cron`, `time_zone`, `missed` and `overlap`."""
    if not item.is_table:
        text = item.filled_text()
        return None if text is None else ScheduleSpec(cron=text)
    table = Section(item, ("cron", "time_zone", "missed", "overlap"))
    if not table.has("cron"):
        item.refuse("the schedule does not say when", 'cron = "0 3 * * *"')
        return None
    return ScheduleSpec(
        cron=table.read("cron", Item.filled_text, "@daily"),
        time_zone=table.read("time_zone", Item.filled_text, "UTC"),
        missed=table.read("missed", lambda one: one.choice({m.value: m for m in MissedRun}), MissedRun.SKIP),
        overlap=table.read(
            "overlap", lambda one: one.choice({o.value: o for o in OverlapPolicy}), OverlapPolicy.FORBID
        ),
    )


def find_schedule_faults(spec: ServiceSpec) -> Iterator[Fault]:
    """What cannot be of a service with a schedule."""
    schedule = spec.schedule
    if schedule is None:
        return
    try:
        if next_after(ScheduleSpec(cron=schedule.cron), 0) is None:
            yield Fault("schedule", f"{schedule.cron!r} names a day that never comes", _EXAMPLE)
    except ValueError as error:
        yield Fault("schedule", str(error), _EXAMPLE)
    try:
        zone_of(schedule.time_zone)
    except ValueError as error:
        yield Fault("schedule", str(error), "a name such as Europe/Berlin")
    if spec.ports or spec.routes or spec.readiness or spec.liveness or spec.startup:
        message = "what runs by a schedule runs to its end and answers no requests"
        yield Fault("schedule", message, "no port, domain, path, trigger and health")
    if spec.is_global:
        yield Fault("mode", "what runs by a schedule does not run on every node", '"replicated"')
    if len(spec.name) > NAME_CHARS_MAX:
        yield Fault("name", "the name is too long for the names of its runs", f"at most {NAME_CHARS_MAX} characters")
