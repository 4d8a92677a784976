"""The prompt: completion, history, the toolbar, and the keys."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth

from orca.repl.filters import HELP as FILTERS
from orca.repl.known import Known
from orca.repl.pipeline import is_incomplete, last_stage
from orca.repl.session import BUILT_IN, Session

REFRESH_S: Final = 1.0
STALE_S: Final = 6.0
COMPLETED_CHARACTERS_MAX: Final = 2000
"""A longer text was pasted, and nobody wants it completed."""

Complete = Callable[[Sequence[str], str, Known], Iterable[tuple[str, str]]]
"""Whole words, the begun one, and what is known: what may stand there, each with a word of help."""


class LineCompleter(Completer):
    """Completes commands, options and live names; draws from what is known, and never asks a node."""

    def __init__(self, session: Session, complete: Complete) -> None:
        self._session = session
        self._complete = complete

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What may stand at the cursor."""
        text = document.text_before_cursor
        if len(text) > COMPLETED_CHARACTERS_MAX:
            return
        words, begun, is_filter = last_stage(text)
        for found, meta in self._candidates(words, begun, is_filter=is_filter):
            if found.startswith(begun) and found != begun:
                yield Completion(found, start_position=-len(begun), display_meta=meta)

    def _candidates(self, words: list[str], begun: str, *, is_filter: bool) -> Iterable[tuple[str, str]]:
        known = self._session.prober.last_good
        if is_filter:
            return [(name, text.partition(": ")[2]) for name, text in FILTERS.items()] if not words else []
        while words[:1] == ["watch"]:
            words = words[3:] if words[1:2] == ["-n"] else words[1:]
        if not words:
            own = [(name, text.partition(": ")[2]) for name, text in BUILT_IN.items()]
            return [*self._complete(words, begun, known), *own]
        if words[0] == "use":
            return list(known.apis.items())
        if words[0] == "help":
            return [(name, "") for name in (*self._session.commands.names, *BUILT_IN, *FILTERS)]
        return self._complete(words, begun, known)


def toolbar(session: Session) -> StyleAndTextTuples:
    """One line: where we are, who leads, who decides, what is not well, and how old that is."""
    latest, good = session.prober.latest(), session.prober.last_good
    if not good.node:
        return [("", f" {session.address}: {latest.error or 'asking …'}")]
    age_s = max(0.0, time.monotonic() - good.at)
    parts = [
        good.node,
        f"leader {good.leader}" if good.leader else "no leader",
        f"{good.voters_alive} of {good.voters} decide",
        f"{good.alive} of {len(good.nodes)} alive",
        f"{len(good.services)} services" + (f", {good.unwell} not well" if good.unwell else ""),
    ]
    text = " " + " · ".join(parts)
    if latest.error or age_s > STALE_S:
        return [("", f"{text} · as of {age_s:.0f} s ago")]
    return [("", f"{text} · now")]


class Prompt:
    """Asks for lines. `history`: the file that keeps them, None for none."""

    def __init__(
        self,
        session: Session,
        complete: Complete,
        *,
        history: Path | None = None,
    ) -> None:
        self._session = session
        self._prompt: PromptSession[str] = PromptSession(
            history=InMemoryHistory() if history is None else FileHistory(str(history)),
            completer=LineCompleter(session, complete),
            complete_while_typing=Condition(lambda: len(self._text()) <= COMPLETED_CHARACTERS_MAX),
            bottom_toolbar=lambda: toolbar(session),
            refresh_interval=REFRESH_S,
            key_bindings=self._keys(),
            multiline=True,
            prompt_continuation="  … ",
            color_depth=ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else None,
        )

    def ask(self) -> str:
        """The next line, or lines. Raises EOFError for Ctrl-D and KeyboardInterrupt for Ctrl-C."""
        name = self._session.prober.last_good.node or self._session.address
        return self._prompt.prompt(f"{name}> ")

    def _text(self) -> str:
        return self._prompt.default_buffer.text

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        is_typing = has_focus(DEFAULT_BUFFER)  # not searching the history

        @keys.add("enter", filter=is_typing)
        def _enter(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if is_incomplete(buffer.text) and not buffer.text.strip().startswith("#"):
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @keys.add("?", filter=is_typing)
        def _help(event: KeyPressEvent) -> None:
            words, begun, _ = last_stage(event.current_buffer.document.text_before_cursor)
            text = event.current_buffer.text
            if text.count("'") % 2 or text.count('"') % 2:
                event.current_buffer.insert_text("?")  # inside quotes it is a character like others
                return
            asked = [*words, begun] if begun and not words else words
            run_in_terminal(lambda: print(self._session.help_text(asked)))  # noqa: T201

        return keys
