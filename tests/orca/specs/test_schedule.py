"""Moments of the calendar, the clocks going forward and back among them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from orca.errors import InvalidSpecError
from orca.model.ids import ServiceName
from orca.model.spec import MissedRun, OverlapPolicy, ScheduleSpec
from orca.specs.load import load_text
from orca.specs.schedule import instant_of, latest_until, next_after, parse_cron, run_name

BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def moments(cron: str, after: str, count: int, zone: str = "UTC") -> list[str]:
    """The next `count` moments in UTC."""
    found, at_ms = [], ms(after)
    for _ in range(count):
        following = next_after(ScheduleSpec(cron=cron, time_zone=zone), at_ms)
        assert following is not None
        assert latest_until(ScheduleSpec(cron=cron, time_zone=zone), at_ms, following) == following
        assert latest_until(ScheduleSpec(cron=cron, time_zone=zone), at_ms, following - 1) is None
        at_ms = following
        found.append(f"{datetime.fromtimestamp(at_ms / 1000, UTC):%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/20 * * * *", ["01 00:20", "01 00:40", "01 01:00"]),
        ("5,10 3 * * *", ["01 03:05", "01 03:10", "02 03:05"]),
        ("0 9-17/4 * * *", ["01 09:00", "01 13:00", "01 17:00"]),
        ("0 0 * * mon", ["05 00:00", "12 00:00", "19 00:00"]),
        ("0 0 * * 7", ["04 00:00", "11 00:00", "18 00:00"]),
        ("0 0 13 * fri", ["02 00:00", "09 00:00", "13 00:00"]),
        ("0 0 31 * *", ["31 00:00", "31 00:00", "31 00:00"]),
        ("0 0 29 feb *", ["29 00:00", "29 00:00", "29 00:00"]),
        ("@daily", ["02 00:00", "03 00:00", "04 00:00"]),
    ],
)
def test_fields_name_moments(cron: str, expected: list[str]) -> None:
    assert moments(cron, "2026-01-01T00:00:00", 3) == expected


def test_a_time_that_does_not_exist_is_as_much_later_as_the_clocks_go_forward() -> None:
    assert moments("30 2 * * *", "2026-03-28T02:00:00", 2, "Europe/Berlin") == ["29 01:30", "30 00:30"]


def test_a_time_that_comes_twice_counts_once() -> None:
    assert moments("30 2 * * *", "2026-10-24T12:00:00", 2, "Europe/Berlin") == ["25 00:30", "26 01:30"]


def test_every_half_hour_is_every_half_hour_also_when_the_clocks_change() -> None:
    assert moments("*/30 * * * *", "2026-03-29T00:00:00", 4, "Europe/Berlin") == [
        "29 00:30", "29 01:00", "29 01:30", "29 02:00",
    ]  # fmt: skip
    assert moments("*/30 * * * *", "2026-10-24T23:30:00", 5, "Europe/Berlin") == [
        "25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "a * * * *", "1- * * * *"],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"schedule|minute|hour|day"):
        parse_cron(text)


def test_the_moment_of_a_run_is_read_off_its_name() -> None:
    name, at_ms = ServiceName("back-up"), ms("2026-03-29T01:00:00")
    assert run_name(name, at_ms) == "back-up-202603290100"
    assert instant_of(name, run_name(name, at_ms)) == at_ms
    for other in ("back-up", "up-202603290100", "back-up-202613290100", "back-up-x"):
        assert instant_of(name, ServiceName(other)) is None


def spec_with(lines: str) -> ScheduleSpec | None:
    text = f'[[service]]\nname = "job"\nimage = "job:1"\n{lines}\n'
    return load_text(text, filename="service.toml").specs[0].schedule


def test_a_schedule_is_read_from_a_service_file() -> None:
    assert spec_with('schedule = "0 3 * * *"') == ScheduleSpec(cron="0 3 * * *")
    table = 'schedule = { cron = "@daily", time_zone = "Europe/Berlin", missed = "run", overlap = "replace" }'
    assert spec_with(table) == ScheduleSpec(
        cron="@daily", time_zone="Europe/Berlin", missed=MissedRun.RUN, overlap=OverlapPolicy.REPLACE
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('schedule = "0 25 * * *"', "'25' is no hour: 0 to 23 is right"),
        ('schedule = "0 0 30 2 *"', "names a day that never comes"),
        ('schedule = { cron = "@daily", time_zone = "Mars/Base" }', "'Mars/Base' is no time zone"),
        ('schedule = "@daily"\nport = 80', "answers no requests"),
        ('schedule = "@daily"\nmode = "global"', "does not run on every node"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(lines: str, said: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        spec_with(lines)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.line == (5 if "\n" in lines and "port" not in lines else 4)
