"""The parser, how a verb is run, and how its end becomes an exit code."""

import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncclick as click

from orca.cli.console import Console, error_lines
from orca.cli.interrupt import EXIT_INTERRUPTED, run_until_interrupt
from orca.cli.verbs import VERBS, find_verb, help_text
from orca.version import VERSION

if TYPE_CHECKING:
    from orca.client import Credentials, NodeClient, NodeReads

EXIT_USAGE: Final = 2
EXIT_BROKEN_PIPE: Final = 141
_CONTEXT: Final = {"help_option_names": ["--help", "-h"], "max_content_width": 80}
_EPILOG: Final = "Also: --node ADDRESS, --json, --quiet; see `orca --help`."


class Session(NamedTuple):
    """What a verb's function is given first."""

    console: Console
    node: str | None
    token: str | None = None
    ca_file: str | None = None

    def client(self) -> "AbstractAsyncContextManager[NodeClient]":
        """The way to the node that is meant; connects with the first call."""
        from orca.client import discover_node, open_client

        return open_client(discover_node(self.node, self.console.environ), credentials=self.credentials())

    def reads(self) -> "NodeReads":
        """The way to look at that node without an event loop, for plain verbs."""
        from orca.client import discover_node, plain_reads

        return plain_reads(discover_node(self.node, self.console.environ), credentials=self.credentials())

    def credentials(self) -> "Credentials":
        """What is shown to the node, and whom it has to have its certificate of."""
        from orca.client import find_credentials

        return find_credentials(self.console.environ, self.token, self.ca_file)


class Invocation(NamedTuple):
    """A parsed command line: `perform` runs it, inside trio when `needs_trio`.

    What a plain verb gives may be a coroutine all the same: one that waits for nothing.
    """

    session: Session
    perform: Callable[[], Any]
    needs_trio: bool


def _global_options() -> list[click.Parameter]:
    return [
        click.Option(["--node"], metavar="ADDRESS", hidden=True),
        click.Option(["--token", "api_token"], metavar="TOKEN", hidden=True),
        click.Option(["--ca", "ca_file"], metavar="FILE", hidden=True),
        click.Option(["--json", "as_json"], is_flag=True, hidden=True),
        click.Option(["--quiet", "-q", "is_quiet"], is_flag=True, hidden=True),
    ]


def verb(
    name: str, *params: click.Parameter, more: str = "", is_plain: bool | Callable[..., bool] = False, **settings: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function the command `name` of the table.

    An `async` function runs inside trio, unless `is_plain` says (of its parameters, when it is a function)
    that it awaits only what never waits (`Session.reads`); any other runs outside. It gets the session and its
    parameters, and returns an exit code or None for 0. `more` follows the table's summary
    in the verb's help.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        found = find_verb(name)
        assert found is not None, f"{name} is not in orca.cli.verbs"

        def callback(
            *,
            node: str | None,
            ca_file: str | None,
            as_json: bool,
            is_quiet: bool,
            api_token: str | None = None,
            **values: Any,
        ) -> Invocation:
            root = click.get_current_context().find_root().params
            console = Console(as_json=as_json or root["as_json"], is_quiet=is_quiet or root["is_quiet"])
            session = Session(console, node or root["node"], api_token or root["api_token"], ca_file or root["ca_file"])
            # CO_COROUTINE: asking `inspect` would import it
            is_async = bool(function.__code__.co_flags & 0x80)
            awaits_nothing = is_plain(**values) if callable(is_plain) else is_plain
            return Invocation(session, partial(function, session, **values), is_async and not awaits_nothing)

        own = {word for param in params for word in param.opts}
        return click.Command(
            name,
            params=[*params, *(one for one in _global_options() if not own.intersection(one.opts))],
            callback=callback,
            help=f"{found.summary}\n\n{more}" if more else found.summary,
            short_help=found.summary,
            epilog=_EPILOG,
            context_settings={**_CONTEXT, **settings},
        )

    return decorate


def option(*names: str, **settings: Any) -> click.Option:
    """An option of a verb, as `asyncclick.Option`."""
    return click.Option(names, **settings)


def argument(name: str, **settings: Any) -> click.Argument:
    """An argument of a verb, as `asyncclick.Argument`."""
    return click.Argument([name], **settings)


class VerbGroup(click.Group):
    """All verbs; each module is imported when its verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order."""
        return [one.name for one in VERBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of the table's verb, or None."""
        found = find_verb(cmd_name)
        if found is None:
            return None
        command = getattr(import_module(found.module), f"{found.name}_command")
        assert isinstance(command, click.Command)
        return command

    def get_help(self, ctx: click.Context) -> str:
        """The text that `orca --help` prints without a parser."""
        return help_text().rstrip("\n")


def make_group() -> VerbGroup:
    """The parser of the whole command line."""

    def show_version(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
        if is_wanted and not ctx.resilient_parsing:
            click.echo(f"orca {VERSION}")
            raise click.exceptions.Exit(0)

    version = click.Option(["--version"], is_flag=True, expose_value=False, is_eager=True, callback=show_version)
    return VerbGroup(
        "orca",
        params=[*_global_options(), version],
        context_settings=_CONTEXT,
        no_args_is_help=False,
        invoke_without_command=False,
    )


def run_program(args: Sequence[str]) -> int:
    """Parse `args` and run the verb; the exit code. Everything that ends a command is told here."""
    wants_json = "--json" in args[: args.index("--")] if "--" in args else "--json" in args
    console = Console(as_json=wants_json)
    try:
        try:
            parsed = finished(make_group().main(list(args), prog_name="orca", standalone_mode=False))
            if not isinstance(parsed, Invocation):
                code = int(parsed or 0)
            else:
                console = parsed.session.console
                code = _perform(parsed)
            sys.stdout.flush()
            return code
        except BaseException as error:  # noqa: BLE001 - told apart below, and raised again when it is a bug
            return _end_of(single(error), console)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing, as the parser's and a plain verb's."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError(f"{coroutine} waited for something, and nobody runs a loop")


def _perform(invocation: Invocation) -> int:
    if not invocation.needs_trio:
        result = invocation.perform()
        return int((finished(result) if isinstance(result, Coroutine) else result) or 0)
    import trio

    return trio.run(run_until_interrupt, invocation.perform)


def single(error: BaseException) -> BaseException:
    """What a nest of exception groups comes to: an interrupt, else the first error that it holds."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [single(one) for one in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)), leaves[0])


def _end_of(error: BaseException, console: Console) -> int:
    """Tell how a command ended and give the exit code; raises what is a bug."""
    from orca.errors import OrcaError

    if isinstance(error, OrcaError):
        return tell_error(error, console)
    if isinstance(error, click.UsageError):
        return _tell_usage(error, console)
    if isinstance(error, (KeyboardInterrupt, click.Abort, EOFError)):
        console.keep_live()
        if console.interrupt_note and not console.as_json:
            console.problem("")
            console.problem(console.interrupt_note)
        return EXIT_INTERRUPTED
    raise error


def tell_error(error: Any, console: Console) -> int:
    """Say what an OrcaError says, for people or as JSON; its exit code."""
    sys.stdout.flush()
    if console.as_json:
        import msgspec

        from orca.errors import to_body

        console.problem(msgspec.json.encode({"error": to_body(error)}).decode())
    else:
        for index, line in enumerate(error_lines(error)):
            console.problem(line, "red bold" if index == 0 else "")
    return int(error.exit_code)


def _tell_usage(error: click.UsageError, console: Console) -> int:
    message = error.format_message()
    where = error.ctx.command_path if error.ctx is not None else "orca"
    if console.as_json:
        import msgspec

        body = {"code": "usage", "message": message, "hint": f"{where} --help"}
        console.problem(msgspec.json.encode({"error": body}).decode())
    else:
        console.problem(f"error: {message}", "red bold")
        console.problem(f"hint: {where} --help")
    return EXIT_USAGE
