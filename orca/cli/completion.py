"""`orca completion`: the script that makes a shell complete verbs, options and live names."""

import asyncclick as click

from orca.cli.program import Session, argument, make_group, verb

_HOW = """
\b
bash:  source <(orca completion bash)           in ~/.bashrc
zsh:   source <(orca completion zsh)            in ~/.zshrc, after compinit
fish:  orca completion fish | source            in ~/.config/fish/config.fish
"""


@verb("completion", argument("shell", type=click.Choice(["bash", "zsh", "fish"])), more=_HOW)
def completion_command(session: Session, shell: str) -> None:
    """Print the script of `shell`."""
    from asyncclick.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, f"asyncclick completes {shell}"
    script = kind(make_group(), {}, "orca", "_ORCA_COMPLETE").source()
    if session.console.as_json:
        session.console.data({"shell": shell, "script": script})
    else:
        session.console.line(script)
