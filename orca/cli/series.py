"""Figures over time in a terminal: one line a subject, with a small picture of each figure."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.cli.text import Cell
    from orca.commands.stats import SeriesKind
    from orca.model.series import SeriesPoint, SeriesReply, SeriesView

BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 20
"""Of a picture."""


def sparkline(points: "Sequence[SeriesPoint]", step_s: int, until_s: int, width: int = WIDTH) -> str:
    """The means of the last `width` steps, the highest as a full bar; a space where nothing was noted."""
    last = until_s - until_s % step_s
    known = {one.at_s: one.mean for one in points}
    values = [known.get(last - step_s * (width - 1 - at)) for at in range(width)]
    top = max((one for one in values if one is not None), default=0.0)
    return "".join(
        " " if one is None else BARS[min(len(BARS) - 1, int(one / top * len(BARS)))] if top > 0 else BARS[0]
        for one in values
    )


def show_series(reply: "SeriesReply", kind: "SeriesKind", console: "Console") -> None:
    """SUBJECT NODE, then for each figure its mean, its peak and its picture."""
    from orca.cli.render import silence
    from orca.cli.text import Cell, Column, clean

    if console.as_json:
        console.data(reply)
        return
    figures = _columns(kind)
    lines: dict[tuple[str, str, str], dict[str, SeriesView]] = {}
    for one in reply.series:
        lines.setdefault((_name(one), one.node_name or one.node, one.allocation or ""), {})[one.figure] = one
    if not lines:
        console.line("nothing was noted in that time", "dim")
    else:
        columns = (
            [Column("NODE", shrinks_to=8)] if kind.value == "nodes" else [Column("NAME", shrinks_to=8), Column("NODE")]
        )
        for title, _, _ in figures:
            columns += [Column(title, is_number=True), Column("PEAK", is_number=True), Column("")]
        rows: list[list[Cell | str]] = []
        for (name, node, _), found in lines.items():
            row: list[Cell | str] = [clean(node)] if kind.value == "nodes" else [clean(name), clean(node)]
            for _, figure, text in figures:
                row += _cells(found.get(figure), text, reply)
            rows.append(row)
        console.table(columns, rows)
        console.line(f"a bar is {_span(reply.step_s)}", "dim")
    for gone in reply.silent:
        console.line(silence(gone), "yellow")


def _cells(series: "SeriesView | None", text: Callable[[float], str], reply: "SeriesReply") -> "list[Cell | str]":
    if series is None or not series.points:
        return ["", "", ""]
    mean = sum(one.mean for one in series.points) / len(series.points)
    peak = max(one.peak for one in series.points)
    return [text(mean), text(peak), sparkline(series.points, reply.step_s, reply.observation.at_ms // 1000)]


def _columns(kind: "SeriesKind") -> tuple[tuple[str, str, Callable[[float], str]], ...]:
    from orca.model.units import format_bytes

    def share(value: float) -> str:
        return f"{value * 100:.1f}%"

    return {
        "copies": (
            ("CPU", "cpu_milli", lambda value: f"{value / 1000:.2f}"),
            ("MEMORY", "memory_bytes", lambda value: format_bytes(int(value))),
        ),
        "services": (
            ("ANSWERS/S", "answers_per_s", lambda value: f"{value:.1f}"),
            ("ERRORS", "error_share", share),
            ("P95", "latency_p95_s", lambda value: f"{value * 1000:.0f}ms"),
        ),
        "nodes": (
            ("CPU", "node_cpu_share", share),
            ("MEMORY", "node_memory_share", share),
            ("DISK FREE", "disk_free_share", share),
        ),
    }[kind.value]


def _name(series: "SeriesView") -> str:
    from orca.model.ids import display_name

    if series.service is None:
        return ""
    shown = display_name(series.service)
    return shown if series.slot is None else f"{shown}.{series.slot + 1}"


def _span(step_s: int) -> str:
    from orca.model.units import format_duration

    return format_duration(step_s)
