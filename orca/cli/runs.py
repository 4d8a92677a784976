"""The verb `run`: one command in a copy of its own."""

from typing import TYPE_CHECKING, Any

import asyncclick as click

from orca.cli.live_names import complete_service
from orca.cli.program import Session, argument, option, verb
from orca.cli.streams import parse_env_options

if TYPE_CHECKING:
    from orca.commands.progress import Progress
    from orca.commands.run import RunOptions
    from orca.model.view import LogRecord


@verb(
    "run",
    argument("target", metavar="IMAGE|SERVICE", shell_complete=complete_service),
    argument("command", nargs=-1, metavar="[--] [COMMAND...]", type=click.UNPROCESSED),
    option("--env", "-e", "env", multiple=True, metavar="KEY=VALUE", help="Environment variable; repeatable."),
    option("--memory", metavar="SIZE", help="Memory that it may use: 512Mi."),
    option("--cpu", metavar="CORES", help="Processor that it may use: 0.5, 250m."),
    option("--on", "on_node", metavar="NODE", help="The node to run it on."),
    option("--project", metavar="NAME", help="Project of a run of an image."),
    option("--detach", "-d", "is_detached", is_flag=True, help="Start it, print its name, do not wait."),
    more="The exit code is that of COMMAND; Ctrl-C stops it, and it is removed however it ends. It is started once, on "
    "one node, and never again. SERVICE lends its image, environment, files, volumes, networks and limits, and goes "
    "first where an image has the same name. With --detach it stays until orca rm; of those that are over the last 10 "
    "of a project are kept. With --json there is one document a line: pieces of the output (stream, text), and at the "
    "end the exit_code.",
    allow_interspersed_args=False,
)
async def run_command(session: Session, target: str, command: tuple[str, ...], is_detached: bool, **values: Any) -> int:
    """Run once."""
    import sys

    from orca.cli.progress import ProgressView
    from orca.commands.exec import ExecRecord
    from orca.commands.run import RunOutcome, make_run, run_to_its_end, start_run
    from orca.model.ids import display_name

    if command and command[0] == "--":  # the parser leaves it in place behind the first argument
        command = command[1:]
    console = session.console
    view = ProgressView(console)
    has_output = False

    def report(news: "Progress") -> None:
        if not has_output:
            view(news)

    def show(record: "LogRecord") -> None:
        nonlocal has_output
        if not has_output:
            has_output = True
            view.finish()
        if console.as_json:
            console.data(ExecRecord(stream=record.stream, text=record.text + "\n"), is_streamed=True)
            return
        out = sys.stderr if record.stream == "stderr" else console.out
        out.write(record.text + "\n")
        out.flush()

    options = _options(values)
    async with session.client() as client:
        spec = await make_run(client, target, command, options)
        if is_detached:
            await start_run(client, spec, report)
            if console.as_json:
                console.data(RunOutcome(service=spec.id))
            else:
                console.line(display_name(spec.id))
            return 0
        console.interrupt_note = f"{display_name(spec.id)} is stopped and removed."
        try:
            outcome = await run_to_its_end(client, spec, show, report)
        finally:
            view.finish()
        console.interrupt_note = ""
    code = outcome.exit_code or 0
    if console.as_json:
        console.data(ExecRecord(exit_code=code), is_streamed=True)
    return code


def _options(values: dict[str, Any]) -> "RunOptions":
    from orca.commands.run import RunOptions
    from orca.errors import InvalidRequestError
    from orca.model.ids import DEFAULT_PROJECT, ProjectName
    from orca.model.spec import Resources
    from orca.model.units import parse_bytes, parse_cpu

    try:
        resources = Resources(
            cpu_milli=None if values["cpu"] is None else parse_cpu(values["cpu"]),
            memory_bytes=None if values["memory"] is None else parse_bytes(values["memory"]),
        )
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error
    return RunOptions(
        project=ProjectName(values["project"]) if values["project"] else DEFAULT_PROJECT,
        env=parse_env_options(values["env"]),
        resources=resources,
        node=values["on_node"],
    )
