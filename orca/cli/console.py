"""The terminal: what goes to stdout and stderr, in colour, as JSON, or redrawn in place.

stdout is for results, stderr for progress, notes and errors, so that a pipe gets
results only. Colour and redrawing need a terminal that can do them: NO_COLOR,
TERM=dumb and anything that is no terminal give plain lines.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from orca.cli.text import WIDTH_DEFAULT, Column, clean, cut, paint, table

if TYPE_CHECKING:
    from orca.cli.text import Cell

LIVE_ROWS_MIN: Final = 4


class Console:
    """Where a command's answers and notes go.

    `as_json`: results are JSON documents. `is_quiet`: no notes and no progress.
    `interrupt_note` is said when Ctrl-C ends the command.
    """

    def __init__(
        self,
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
        as_json: bool = False,
        is_quiet: bool = False,
    ) -> None:
        self.out = sys.stdout if out is None else out
        self.err = sys.stderr if err is None else err
        self.environ = os.environ if environ is None else environ
        self.as_json = as_json
        self.is_quiet = is_quiet
        self.interrupt_note = ""
        able = not self.environ.get("NO_COLOR") and self.environ.get("TERM", "") not in ("", "dumb")
        self.is_terminal = self.out.isatty()
        self.is_coloured = able and self.is_terminal and not as_json
        self.is_error_coloured = able and self.err.isatty()
        self.is_live = self.err.isatty() and self.environ.get("TERM", "") not in ("", "dumb") and not as_json
        self.width = self._width()
        self._live_lines = 0

    def _width(self) -> int:
        if self.is_terminal or self.environ.get("COLUMNS", "").isdecimal():
            return max(shutil.get_terminal_size((WIDTH_DEFAULT, 24)).columns, 40)
        return WIDTH_DEFAULT

    def line(self, text: str = "", style: str = "") -> None:
        """A line of the result."""
        self.out.write(paint(text, style, is_coloured=self.is_coloured) + "\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence["Cell | str"]]) -> None:
        """A table as part of the result."""
        for text in table(columns, rows, width=self.width, is_coloured=self.is_coloured):
            self.out.write(text + "\n")

    def data(self, value: Any, *, is_streamed: bool = False) -> None:
        """`value` as a JSON document: indented for people, on one line for pipes and streams."""
        import msgspec

        encoded = msgspec.json.encode(value)
        if self.is_terminal and not is_streamed:
            encoded = msgspec.json.format(encoded, indent=2)
        self.out.write(encoded.decode() + "\n")
        if is_streamed:
            self.out.flush()

    def note(self, text: str, style: str = "") -> None:
        """A line beside the result: said on stderr, not with `--quiet`; not in JSON, which programs read."""
        if not self.is_quiet and not self.as_json:
            self.clear_live()
            self.err.write(paint(text, style, is_coloured=self.is_error_coloured) + "\n")
            self.err.flush()

    def problem(self, text: str, style: str = "") -> None:
        """A line on stderr that is said in any case."""
        self.clear_live()
        self.err.write(paint(text, style, is_coloured=self.is_error_coloured) + "\n")

    def live(self, lines: Sequence[str]) -> None:
        """Redraw the block at the end of the terminal; call only when `is_live`."""
        size = shutil.get_terminal_size((WIDTH_DEFAULT, 24))
        rows = max(size.lines - 2, LIVE_ROWS_MIN)
        shown = list(lines[:rows])
        if len(lines) > rows:
            shown[-1] = f"… {len(lines) - rows + 1} more lines"
        text = self._erase() + "".join(cut_painted(one, size.columns - 1) + "\n" for one in shown)
        self._live_lines = len(shown)
        self.err.write(text)
        self.err.flush()

    def clear_live(self) -> None:
        """Take the redrawn block away."""
        if self._live_lines:
            self.err.write(self._erase())
            self.err.flush()

    def keep_live(self) -> None:
        """Leave the block as it is and go on below it."""
        self._live_lines = 0

    def _erase(self) -> str:
        lines, self._live_lines = self._live_lines, 0
        return f"\x1b[{lines}A\x1b[J" if lines else ""


def cut_painted(text: str, width: int) -> str:
    """As `cut`, for a text that may be painted: what would be too long loses its paint."""
    if "\x1b" not in text:
        return cut(text, width)
    plain = unpainted(text)
    shortened = cut(plain, width)
    return text if shortened == plain else shortened


def unpainted(text: str) -> str:
    """`text` without the sequences of `paint`."""
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


def error_lines(error: BaseException, *, prefix: str = "error") -> list[str]:
    """What a person reads of an OrcaError: message, all problems, hint."""
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    lines = [f"{prefix}: {clean(message)}"]
    problems = getattr(error, "problems", ())
    lines += [f"  {clean(str(problem))}" for problem in problems if str(problem) != message]
    hint = getattr(error, "hint", "")
    return [*lines, f"hint: {clean(hint)}"] if hint else lines
