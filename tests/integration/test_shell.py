"""`orca shell` in a terminal, and as a script."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, running_cluster
from tests.integration.node import Node
from tests.integration.services import HELLO_WAT, module
from tests.integration.terminal import Terminal, terminal

PROMPT = "1 of 1 decide"
"""What a person waits for before typing again: part of the line below the prompt."""
TAB, CTRL_C, CTRL_D, CTRL_R = "\t", "\x03", "\x04", "\x12"


@pytest.fixture(scope="module")
def node(wasm_node: Node) -> Node:
    wasm_node.file("hello.wat", HELLO_WAT)
    wasm_node.cli("deploy", wasm_node.file("hello.toml", module("hello", replicas=2))).good()
    return wasm_node


@pytest.fixture
def shell(node: Node, tmp_path: Path) -> Iterator[Terminal]:
    with terminal("shell", environ={**node.environ(), "XDG_STATE_HOME": str(tmp_path)}) as made:
        made.wait_for(PROMPT)
        yield made


def test_commands_run_without_their_first_word_and_the_toolbar_tells_of_the_cluster(shell: Terminal) -> None:
    shell.type("ps\r")
    shell.wait_for("hello       2")
    shell.wait_for(PROMPT)
    shell.type("nonsense\r")
    shell.wait_for("No such command 'nonsense'")
    shell.wait_for(PROMPT)
    shell.type("exit\r")
    assert shell.ended() == 0


def test_commands_options_and_live_names_are_completed(shell: Terminal) -> None:
    shell.type("histo")
    shell.wait_for("Revisions of a service")
    shell.type(TAB + " hel")
    shell.wait_for("hello")
    shell.type(TAB + "\r")
    shell.wait_for("deploy")
    shell.wait_for(PROMPT)
    shell.type("logs he")
    shell.wait_for("hello.1")
    shell.type(CTRL_C)
    shell.wait_for(PROMPT)
    shell.type("ps --a")
    shell.wait_for("--all")


def test_output_goes_through_filters(shell: Terminal) -> None:
    shell.type("status --json | json services[].name\r")
    shell.wait_for("\r\nhello")
    shell.wait_for(PROMPT)
    shell.type("ps | grep -v hello | count\r")
    shell.wait_for("\r\n1")


def test_ctrl_c_clears_the_line_and_ends_what_runs_and_ctrl_d_leaves(shell: Terminal) -> None:
    shell.type("rm -y hel" + CTRL_C)
    shell.wait_for(PROMPT)
    shell.type("events -f\r")
    shell.wait_for("is ready")
    shell.type(CTRL_C)
    shell.wait_for(PROMPT)
    shell.type("version\r")
    shell.wait_for("node 0.")
    shell.wait_for(PROMPT)
    shell.type(CTRL_D)
    assert shell.ended() == 0


def test_a_question_mark_helps_and_the_line_stays(shell: Terminal) -> None:
    shell.type("scale ?")
    shell.wait_for("Usage: scale")
    shell.type("hello=2\r")
    shell.wait_for("hello is healthy")


def test_a_watched_command_runs_again_until_ctrl_c(shell: Terminal) -> None:
    shell.type("watch -n 0.2 ps\r")
    shell.wait_for("every 0.2 s: ps")
    shell.wait_for("every 0.2 s: ps")
    shell.type(CTRL_C)
    shell.wait_for(PROMPT)
    shell.type("version\r")
    shell.wait_for("node 0.")


def test_lines_that_belong_together_are_one_and_unicode_is_kept(shell: Terminal) -> None:
    shell.type("help \\\r")
    shell.wait_for("…")
    shell.type("watch\r")
    shell.wait_for("again and again")
    shell.wait_for(PROMPT)
    shell.type("logs größe\r")
    shell.wait_for("größe")


def test_the_history_is_searched_and_survives(node: Node, tmp_path: Path) -> None:
    environ = {**node.environ(), "XDG_STATE_HOME": str(tmp_path)}
    with terminal("shell", environ=environ) as first:
        first.wait_for(PROMPT)
        first.type("history hello\r")
        first.wait_for("deploy")
        first.wait_for(PROMPT)
        first.type(CTRL_D)
        first.ended()
    assert (tmp_path / "orca" / "shell_history").stat().st_mode & 0o077 == 0
    with terminal("shell", environ=environ) as second:
        second.wait_for(PROMPT)
        second.type(CTRL_R + "hist")
        second.wait_for("history hello")
        second.type("\r\r")
        second.wait_for("deploy")


def test_another_size_and_ten_thousand_pasted_lines_do_no_harm(shell: Terminal) -> None:
    shell.resize(20, 60)
    shell.type("\x1b[200~" + "# line\n" * 10_000 + "\x1b[201~\r")
    shell.type("version\r")
    shell.wait_for("node 0.", wait_s=60)


def test_a_script_stops_at_the_first_line_that_fails_with_its_code(node: Node) -> None:
    done = node.cli("shell", stdin=b"ps | head 1\n# fine so far\nhistory nobody\nversion\n")
    assert done.code == 3
    assert "ID" in done.out
    assert "node 0." not in done.out
    assert node.cli("shell", "-c", "ps | grep hello | count").good().out == "2\n"
    assert node.cli("shell", "-c", "ps | sed x").code == 2


def test_it_goes_on_with_another_node_when_its_own_dies(tmp_path: Path) -> None:
    with running_cluster(3) as cluster:
        cluster.wait_settled()
        _outlive(cluster, tmp_path)


def _outlive(cluster: Cluster, tmp_path: Path) -> None:
    victim = cluster.nodes[0]
    environ = {**victim.environ(), "XDG_STATE_HOME": str(tmp_path)}
    with terminal("shell", environ=environ) as shell:
        shell.wait_for("3 of 3 decide")
        shell.type("stat")
        os.kill(victim.pid, signal.SIGKILL)
        shell.wait_for("as of", wait_s=60)
        shell.type("us\r")
        shell.wait_for("does not answer")
        shell.wait_for("2 nodes")
        shell.wait_for("2 of 3 alive", wait_s=60)
