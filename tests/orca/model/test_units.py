"""Amounts with units: every one that is read is right, everything else is refused."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.model.units import (
    format_bytes,
    format_cpu,
    format_duration,
    parse_bytes,
    parse_cpu,
    parse_duration_s,
)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1048576", 2**20),
        (1048576, 2**20),
        ("512Mi", 512 * 2**20),
        ("512MiB", 512 * 2**20),
        ("1.5Gi", 3 * 2**29),
        ("64M", 64 * 10**6),
        ("64 MB", 64 * 10**6),
        ("512m", 512 * 10**6),
        ("2k", 2000),
        ("1Ti", 2**40),
        (" 7b ", 7),
    ],
)
def test_bytes_are_read_in_both_families_of_units(text: str | int, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "Mi", "-1", "0", 0, "512Xi", "1e3", "1,5Gi", "1.5", "0x10", "1 2", "999Ti9", "٣"])
def test_what_is_no_amount_of_bytes_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="byte"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "milli"), [("250m", 250), ("0.5", 500), (0.5, 500), (2, 2000), ("2", 2000), (0.25, 250)]
)
def test_cpu_is_read_in_cores_and_thousandths(text: str | float, milli: int) -> None:
    assert parse_cpu(text) == milli


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "0", "0.0001", "1.5m", "2 cores", "1001", 0, float("nan"), float("inf")]
)
def test_what_is_no_amount_of_cpu_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"cpu|core"):
        parse_cpu(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("1m30s", 90),
        ("2h", 7200),
        ("1d", 86400),
        (3, 3),
        (0.5, 0.5),
        ("0s", 0),
        ("1.5s", 1.5),
    ],
)
def test_durations_are_read_in_parts(text: str | float, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "1m 30s", "-1s", "1w", "1s30", "400d", -1, 10**9])
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"duration|outside"):
        parse_duration_s(text)


@given(st.integers(1, 2**60), st.sampled_from(["", "B", "b"]))
def test_every_whole_number_of_bytes_is_read_as_itself(amount: int, unit: str) -> None:
    if amount < 10**15:
        assert parse_bytes(f"{amount}{unit}") == amount
    assert parse_bytes(amount) == amount


@given(
    st.integers(1, 2**20), st.sampled_from([("Ki", 2**10), ("mi", 2**20), ("GiB", 2**30), ("k", 10**3), ("G", 10**9)])
)
def test_a_unit_multiplies_and_nothing_else(number: int, unit: tuple[str, int]) -> None:
    assert parse_bytes(f"{number}{unit[0]}") == number * unit[1]


@given(st.integers(1, 1_000_000))
def test_formatted_cpu_is_read_back(milli: int) -> None:
    if milli <= 999_999 and len(format_cpu(milli).replace(".", "").lstrip("0")) <= 6 and "e" not in format_cpu(milli):
        assert parse_cpu(format_cpu(milli)) == milli
    assert parse_cpu(f"{milli}m") == milli


@given(st.integers(1, 366 * 86400))
def test_a_formatted_duration_is_read_back_to_within_its_second_unit(seconds: int) -> None:
    read = parse_duration_s(format_duration(seconds))
    step = 1 if seconds < 3600 else 60 if seconds < 86400 else 3600
    assert seconds - step < read <= seconds


@given(st.integers(0, 2**60))
def test_formatted_bytes_keep_two_digits_of_truth(amount: int) -> None:
    number, unit = format_bytes(amount).split(" ")
    factor = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]
    assert abs(Fraction(number) * factor - amount) <= Fraction(amount, 15)


@given(st.text(max_size=12))
def test_any_text_is_an_amount_or_a_value_error(text: str) -> None:
    for parse in (parse_bytes, parse_cpu, parse_duration_s):
        try:
            amount: float = parse(text)
        except ValueError:
            continue
        assert amount >= 0
