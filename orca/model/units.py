"""Amounts with units: strict to read, plain to write.

`512Mi`, `1.5Gi`, `250m`, `0.5`, `1m30s`. A number that cannot be read is an
error that says what is allowed, never "no limit".
"""

import re
from fractions import Fraction
from typing import Final, NewType

Instant = NewType("Instant", float)
"""Seconds on a monotonic clock; only differences mean anything."""

WallMs = NewType("WallMs", int)
"""Milliseconds since 1970 UTC, for people and for records; never for deciding order."""

Bytes = NewType("Bytes", int)
MilliCpu = NewType("MilliCpu", int)
"""Thousandths of one core."""

_BYTE_FACTORS: Final = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "m": 10**6,
    "mb": 10**6,
    "g": 10**9,
    "gb": 10**9,
    "t": 10**12,
    "tb": 10**12,
    "ki": 2**10,
    "kib": 2**10,
    "mi": 2**20,
    "mib": 2**20,
    "gi": 2**30,
    "gib": 2**30,
    "ti": 2**40,
    "tib": 2**40,
}
_NUMBER: Final = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_BYTES: Final = re.compile(_NUMBER + r" ?([A-Za-z]{0,3})")
_CPU: Final = re.compile(_NUMBER + r"(m?)")
_DURATION_PART: Final = re.compile(_NUMBER + r"(ms|us|s|m|h|d)")
_DURATION_FACTORS: Final = {
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
BYTES_MAX: Final = 2**60
CPU_MILLI_MAX: Final = 1_000_000
DURATION_S_MAX: Final = 366 * 86400


def parse_bytes(text: str | int) -> Bytes:
    """An amount of memory or disk in bytes: `512Mi`, `1.5Gi`, `64M`, `1048576`.

    `K M G T` are powers of 1000, `Ki Mi Gi Ti` powers of 1024; case is ignored, so
    `512m` is 512 million bytes. Raises ValueError for anything
    else, for a fraction of a byte and for more than 2**60.
    """
    if isinstance(text, int):
        number, unit = Fraction(text), ""
    else:
        match = _BYTES.fullmatch(text.strip())
        if match is None or match[2].lower() not in _BYTE_FACTORS:
            raise ValueError(f"{text!r} is not an amount of bytes; write it like 512Mi, 1.5Gi, 64M or 1048576")
        number, unit = Fraction(match[1]), match[2].lower()
    amount = number * _BYTE_FACTORS[unit]
    if amount.denominator != 1:
        raise ValueError(f"{text!r} is a fraction of a byte; write a whole number of bytes")
    if not 0 < amount <= BYTES_MAX:
        raise ValueError(f"{text!r} is outside 1 byte to 2**60 bytes")
    return Bytes(int(amount))


def parse_cpu(text: str | float) -> MilliCpu:
    """A share of cores in thousandths: `250m`, `0.5`, `2`.

    Raises ValueError for anything else, for less than one thousandth and for more
    than 1,000 cores.
    """
    shown = str(text) if isinstance(text, str) else repr(text)
    match = _CPU.fullmatch(shown.strip())
    if match is None:
        raise ValueError(f"{shown} is not an amount of cpu; write it like 0.5, 2 or 250m (thousandths of a core)")
    milli = Fraction(match[1]) * (1 if match[2] else 1000)
    if milli.denominator != 1:
        raise ValueError(f"{shown} is finer than a thousandth of a core; write it like 250m or 0.25")
    if not 0 < milli <= CPU_MILLI_MAX:
        raise ValueError(f"{shown} is outside 1m to 1000 cores")
    return MilliCpu(int(milli))


def parse_duration_s(text: str | float) -> float:
    """A duration in seconds: `500ms`, `10s`, `1m30s`, `2h`, or a bare number of seconds.

    Raises ValueError for anything else and for more than 366 days.
    """
    if isinstance(text, (int, float)):
        seconds = Fraction(text)
    else:
        stripped = text.strip()
        parts = [(match[1], match[2]) for match in _DURATION_PART.finditer(stripped)]
        if not parts or "".join(number + unit for number, unit in parts) != stripped:
            raise ValueError(f"{text!r} is not a duration; write it like 500ms, 10s, 1m30s or 2h")
        seconds = sum((Fraction(n) * _DURATION_FACTORS[unit] for n, unit in parts), Fraction(0))
    if not 0 <= seconds <= DURATION_S_MAX:
        raise ValueError(f"{text!r} is outside 0 s to 366 days")
    return float(seconds)


def format_bytes(amount: int) -> str:
    """`amount` bytes for people: at most four digits and a binary unit, `512 MiB`."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1000 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"


def format_cpu(milli: int) -> str:
    """`milli` thousandths of a core for people: `0.25`, `2`."""
    return f"{milli / 1000:g}"


def format_duration(seconds: float) -> str:
    """`seconds` for people, two units at most: `350ms`, `4.2s`, `1m30s`, `3d4h`."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    for size, unit, lower_size, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // lower_size
            return f"{whole // size}{unit}" + (f"{rest}{lower}" if rest else "")
    return f"{whole}s"
