"""`orca shell`: the command line with a prompt."""

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orca.cli.program import Session, finished, make_group, option, tell_error, verb
from orca.cli.verbs import VERBS, help_text, only_looks

if TYPE_CHECKING:
    from orca.repl.known import Known
    from orca.repl.session import Session as Shell

ASK_S: Final = 2.0
_NOT_HERE: Final = frozenset({"shell", "completion"})
_HOW: Final = """\
All commands without their first word, completed with Tab as far as names of services, copies and nodes; `?` for help,
Ctrl-R searches the history, `watch status`, `logs web | grep error | tail 5`, `status --json | json services[].name`.
When the node that it talks to dies, it goes on with another one.

Without a terminal it carries out what standard input says, and stops at the first line that fails, with its code.
"""


@verb("shell", option("--command", "-c", metavar="LINE", help="Carry out one line, and leave."), more=_HOW)
def shell_command(session: Session, command: str | None) -> int:
    """Prompt."""
    from orca.client import discover_node
    from orca.repl.session import Commands
    from orca.repl.session import Session as Shell

    signal.signal(signal.SIGINT, signal.default_int_handler)
    commands = Commands(
        run=_run,
        ask=lambda address: _ask(session, address),
        tell=lambda error: tell_error(error, session.console),
        names=tuple(one.name for one in VERBS if one.name not in _NOT_HERE),
        repeatable=only_looks,
        help_of=_help_of,
    )
    _keep_credentials(session)
    shell = Shell(commands, str(discover_node(session.node, session.console.environ)))
    shell.look()
    if command is not None:
        return shell.run_text(command, stops_at_failure=True)
    if not sys.stdin.isatty():
        return shell.run_text(sys.stdin.read(), stops_at_failure=True)
    return _talk(session, shell)


def _talk(session: Session, shell: "Shell") -> int:
    from orca.repl.prompt import Prompt

    shell.prober.start()
    prompt = Prompt(shell, complete, history=_history(session))
    try:
        while not shell.is_over:
            try:
                shell.run_text(prompt.ask())
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
    finally:
        shell.prober.stop()
    return 0


def _run(words: Sequence[str]) -> int:
    from orca.cli.main import run

    return run(words)


def _ask(session: Session, address: str) -> "Known":
    from orca.client import parse_address, plain_reads
    from orca.repl.known import ask

    reads = plain_reads(parse_address(address), timeout_s=ASK_S, credentials=session.credentials())
    known: Known = finished(ask(reads))
    return known


def _keep_credentials(session: Session) -> None:
    """What was given to the shell holds for its commands."""
    for name, value in (("ORCA_TOKEN", session.token), ("ORCA_CA", session.ca_file)):
        if value:
            os.environ[name] = value


def _help_of(words: Sequence[str]) -> str:
    if not words:
        return help_text().partition("\nOptions")[0].rstrip("\n")
    import asyncclick as click

    group = make_group()
    command = group.get_command(click.Context(group), words[0])
    assert command is not None, f"{words[0]} is a verb"
    text: str = command.get_help(click.Context(command, info_name=words[0]))
    return text


def complete(words: Sequence[str], begun: str, known: "Known") -> Iterable[tuple[str, str]]:
    """What may stand after `words` instead of `begun`, each with a word of help; asks nobody."""
    from asyncclick.shell_completion import ShellComplete

    completer = ShellComplete(make_group(), {"obj": known}, "orca", "_ORCA_COMPLETE")
    found = finished(completer.get_completions(list(words), begun))
    return [(one.value, one.help or "") for one in found if one.type == "plain" and one.value not in _NOT_HERE]


def _history(session: Session) -> Path | None:
    """The file that keeps what was typed, readable for its owner alone; None where it cannot be written."""
    environ = session.console.environ
    state = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME') or Path.home()}/.local/state"
    path = Path(state) / "orca" / "shell_history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return None
    return path
