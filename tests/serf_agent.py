"""Real Serf agents on loopback, for the tests that need another's judgement."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from tests.ports import free_port

HOST = "127.0.0.1"
AUTH_KEY = "for tests only"
START_S = 45.0
SEEN_S = 45.0
"""How long news may take. Serf's `local` profile sends each piece twice and leaves who missed it to a push/pull, which
each member begins every 15 s with one other: three turns, and a slow machine has some to spare."""
CONFIG = json.dumps({"rpc_auth": AUTH_KEY})
"""The agent has no option for its key."""


def why_no_serf() -> str:
    """Why there is no agent to be had; empty when there is."""
    return "" if shutil.which("serf") else "Debian's serf is not installed"


def agent_command(
    name: str, port: int, rpc_port: int, config: str, *, encrypt: str = "", profile: str = "local", host: str = HOST
) -> list[str]:
    """The command line of an agent; `config` is a file that holds `CONFIG`."""
    bracketed = f"[{host}]" if ":" in host else host
    return [
        "serf", "agent", f"-node={name}", f"-bind={bracketed}:{port}", f"-rpc-addr={HOST}:{rpc_port}",
        f"-config-file={config}", f"-profile={profile}", "-log-level=debug",
        *([f"-encrypt={encrypt}"] if encrypt else []),
    ]  # fmt: skip


def environ() -> dict[str, str]:
    """The environment without what would tell an agent to be another."""
    return {key: value for key, value in os.environ.items() if not key.startswith("SERF_")}


@dataclass
class Agent:
    """A running `serf agent`; `lines` is what it has logged."""

    name: str
    port: int
    rpc_port: int
    process: trio.Process
    lines: list[str] = field(default_factory=list)
    _news: trio.Event = field(default_factory=trio.Event)

    @property
    def address(self) -> str:
        """Where it gossips."""
        return f"{HOST}:{self.port}"

    async def command(self, *words: str, timeout_s: float = 20.0) -> str:
        """What `serf WORDS...` prints about this agent; fails with it."""
        verb, *rest = words
        line = ["serf", verb, f"-rpc-addr={HOST}:{self.rpc_port}", f"-rpc-auth={AUTH_KEY}", *rest]
        with trio.fail_after(timeout_s):
            done = await trio.run_process(line, capture_stdout=True, capture_stderr=True, check=False)
        output = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == 0, f"{line}: {output}"
        return output

    async def logs(self, words: str, *, timeout_s: float = SEEN_S) -> str:
        """The first line of its log, past or to come, that has `words` in it."""
        with trio.move_on_after(timeout_s):
            seen = 0
            while True:
                for line in self.lines[seen:]:
                    if words in line:
                        return line
                seen = len(self.lines)
                self._news = trio.Event()
                await self._news.wait()
        raise AssertionError(f"{self.name} never logged {words!r}:\n" + "\n".join(self.lines[-30:]))

    async def members(self) -> dict[str, str]:
        """Its members and their states."""
        found = {}
        for line in (await self.command("members")).splitlines():
            name, _, state, *_ = line.split()
            found[name] = state
        return found

    async def sees(self, expected: dict[str, str], *, timeout_s: float = SEEN_S) -> None:
        """Returns when its members are as expected."""
        seen: dict[str, str] = {}
        with trio.move_on_after(timeout_s):
            while True:
                seen = await self.members()
                if seen == expected:
                    return
                await trio.sleep(0.1)
        raise AssertionError(f"{self.name} sees {seen}, not {expected}")

    async def until_sees(self, name: str, state: str, *, timeout_s: float = SEEN_S) -> None:
        """Returns when it holds one member for that."""
        await self.says("members", lambda said: state in _line_of(said, name), timeout_s=timeout_s)

    async def says(self, verb: str, is_right: Callable[[str], bool], *, timeout_s: float = SEEN_S) -> None:
        """Returns when `serf VERB` says what is right."""
        said = ""
        with trio.move_on_after(timeout_s):
            while True:
                said = await self.command(verb)
                if is_right(said):
                    return
                await trio.sleep(0.1)
        raise AssertionError(f"{self.name} says of its {verb}: {said}")

    async def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        await self.process.wait()

    async def hears(self, name: str, *, timeout_s: float = SEEN_S) -> None:
        """Returns when that user event was delivered, whether it came in a packet or with a push/pull."""
        await self.logs(f"Received event: user-event: {name}", timeout_s=timeout_s)

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        async for data in self.process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            self.lines += [line.decode(errors="replace") for line in lines]
            self._news.set()


def _line_of(table: str, name: str) -> str:
    return next((line for line in table.splitlines() if line.split()[:1] == [name]), "")


@asynccontextmanager
async def running_agent(
    name: str,
    *,
    encrypt: str = "",
    profile: str = "local",
    join: Sequence[str] = (),
    tags: Sequence[str] = (),
    extra: Sequence[str] = (),
    port: int = 0,
) -> AsyncIterator[Agent]:
    """An agent until the end of the block."""
    port, rpc_port = port or free_port(), free_port()
    config = tempfile.NamedTemporaryFile("w", suffix=".json")  # noqa: SIM115 - closed with the agent
    config.write(CONFIG)
    config.flush()
    more = [*(f"-join={one}" for one in join), *(f"-tag={one}" for one in tags), *extra]
    command = [*agent_command(name, port, rpc_port, config.name, encrypt=encrypt, profile=profile), *more]
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ()
        )
        agent = Agent(name, port, rpc_port, process)
        nursery.start_soon(agent._listen)
        try:
            with config:
                await agent.logs("agent: Serf agent starting", timeout_s=START_S)
                await agent.logs(f"EventMemberJoin: {name}", timeout_s=START_S)
            yield agent
        finally:
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    await agent.kill()
            nursery.cancel_scope.cancel()
