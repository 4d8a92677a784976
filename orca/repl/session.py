"""What the shell does with a line, whoever typed it."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from orca.errors import InvalidRequestError, NodeUnreachableError, OrcaError
from orca.repl.filters import HELP as FILTERS
from orca.repl.known import Known
from orca.repl.pipeline import Pipeline, is_incomplete, parse
from orca.repl.prober import Prober
from orca.repl.running import run_pipeline

WATCH_S: Final = 2.0
WATCH_S_MIN: Final = 0.2
BUILT_IN: Final = {
    "use": "use NODE|ADDRESS: talk to another node of the cluster; without one: which is it, and which are there",
    "watch": "watch [-n SECONDS] COMMAND: again and again, until Ctrl-C",
    "help": "help [COMMAND]: this, or how a command is used; ? does the same while you type",
    "exit": "exit: leave the shell; Ctrl-D does the same",
}


class Commands(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell needs of the command line.

    `run` runs words and gives the exit code, `ask` asks the node at an address, `tell` shows an error. `help_of` is
    how a command is used. Those that are `repeatable` only look, and may be run again.
    """

    run: Callable[[Sequence[str]], int]
    ask: Callable[[str], Known]
    tell: Callable[[OrcaError], int]
    names: tuple[str, ...]
    repeatable: Callable[[Sequence[str]], bool]
    help_of: Callable[[Sequence[str]], str]


class Session:
    """The node that is talked to, and the lines that are carried out there."""

    def __init__(self, commands: Commands, address: str) -> None:
        self.commands = commands
        self.address = address
        self.prober = Prober(lambda: commands.ask(self.address))
        self.is_over = False
        self.code = 0

    def look(self) -> None:
        """Learn what there is, once; a node that does not answer says so at the first command."""
        with suppress(OrcaError):
            self.prober.put(self.commands.ask(self.address))

    def run_text(self, text: str, *, stops_at_failure: bool = False) -> int:
        """Carry out lines, those that belong together as one; the exit code of the last one that ran."""
        held = ""
        for line in [*text.splitlines(), None]:
            whole = held if line is None else (f"{held}\n{line}" if held else line)
            if line is not None and is_incomplete(whole):
                held = whole
                continue
            held = ""
            if whole.strip():
                self.code = self.run_line(whole)
            if self.is_over or (self.code and stops_at_failure):
                break
        return self.code

    def run_line(self, text: str) -> int:
        """Carry out one line; its exit code. What is wrong with it is told."""
        try:
            pipeline = parse(text)
            if pipeline is None:
                return self.code
            if pipeline.command[0] == "watch":
                return self._watch(pipeline)
            built_in = self._built_in(pipeline.command)
            return self._run(pipeline) if built_in is None else built_in
        except OrcaError as error:
            return self.commands.tell(error)

    # ------------------------------------------------------------------ what only a shell has

    def _built_in(self, words: Sequence[str]) -> int | None:
        """The code of a command of the shell's own, None for any other."""
        match words[0]:
            case "exit" | "quit":
                self.is_over = True
                return 0
            case "help" | "?":
                print(self.help_text(words[1:]))  # noqa: T201 - a prompt's answer
                return 0
            case "use":
                return self._use(words[1:])
            case "shell":
                raise InvalidRequestError("this is a shell already", hint="exit leaves it")
        return None

    def help_text(self, words: Sequence[str]) -> str:
        """How the command that begins with `words` is used, or what there is."""
        name = words[0] if words else ""
        if name in BUILT_IN or name in FILTERS:
            return BUILT_IN.get(name) or FILTERS[name]
        if name in self.commands.names:
            return self.commands.help_of(words)
        own = "\n".join(f"  {text}" for text in BUILT_IN.values())
        behind = "\n".join(f"  {text}" for text in FILTERS.values())
        return f"{self.commands.help_of(())}\nIn the shell:\n{own}\n\nBehind a `|`:\n{behind}"

    def _use(self, words: Sequence[str]) -> int:
        apis = self.prober.last_good.apis
        if not words:
            print(f"talking to {self.address}")  # noqa: T201
            for name, api in sorted(apis.items()):
                print(f"  {name}  {api}")  # noqa: T201
            return 0
        address = apis.get(words[0], words[0])
        known = self.commands.ask(address)
        self._talk_to(address, known)
        print(f"talking to {known.node} at {address}")  # noqa: T201
        return 0

    def _talk_to(self, address: str, known: Known) -> None:
        self.address = address
        self.prober.start()
        self.prober.put(known)

    def _watch(self, pipeline: Pipeline) -> int:
        words, every_s = list(pipeline.command[1:]), WATCH_S
        if words[:1] == ["-n"]:
            try:
                every_s = max(WATCH_S_MIN, float(words[1]))
            except (IndexError, ValueError) as error:
                raise InvalidRequestError("watch -n wants a number of seconds", hint=BUILT_IN["watch"]) from error
            words = words[2:]
        if not words:
            raise InvalidRequestError("watch wants a command", hint=BUILT_IN["watch"])
        inner = msgspec.structs.replace(pipeline, command=tuple(words))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        code = 0
        try:
            while True:
                if sys.stdout.isatty():
                    sys.stdout.write("\x1b[H\x1b[2J")
                print(f"every {every_s:g} s: {' '.join(words)}   (Ctrl-C ends it)")  # noqa: T201
                code = self._run(inner)
                if code == 130:
                    break
                time.sleep(every_s)
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGINT, before)
        return 0 if code == 130 else code

    # ------------------------------------------------------------------ commands, and the node's death

    def _run(self, pipeline: Pipeline) -> int:
        code = run_pipeline(pipeline, self._as_child)
        if code != NodeUnreachableError.exit_code or not self.move():
            return code
        if self.commands.repeatable(pipeline.command):
            return run_pipeline(pipeline, self._as_child)
        print("Nobody knows whether the command was carried out: look, then give it again.", file=sys.stderr)  # noqa: T201
        return code

    def _as_child(self, words: Sequence[str]) -> int:
        os.environ["ORCA_NODE"] = self.address
        return self.commands.run(words)

    def move(self) -> bool:
        """Talk to another living node if this one does not answer; whether that was so."""
        try:
            self.commands.ask(self.address)
        except NodeUnreachableError as error:
            why = error.message
        except OrcaError:
            return False
        else:
            return False
        good = self.prober.last_good
        for name, api in sorted(good.apis.items()):
            if api == self.address or name == good.node:
                continue
            try:
                known = self.commands.ask(api)
            except OrcaError:
                continue
            if known.cluster == good.cluster:
                self._talk_to(api, known)
                print(f"{good.node} does not answer ({why}); talking to {known.node} now", file=sys.stderr)  # noqa: T201
                return True
        return False
