"""Real Serf agents beside the processes of a cluster, and the real `serf` command line."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.cluster import SETTLE_S
from tests.integration.node import until
from tests.ports import free_port
from tests.serf_agent import AUTH_KEY, CONFIG, HOST, agent_command, environ


def serf(rpc: str, *words: str, key: str = AUTH_KEY, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
    """`serf WORDS...` against the RPC port at `rpc`."""
    verb, *rest = words
    line = ["serf", verb, f"-rpc-addr={rpc}", f"-rpc-auth={key}", *rest]
    return subprocess.run(line, capture_output=True, text=True, timeout=timeout_s, check=False, env=environ())


@dataclass
class RealAgent:
    """One agent; it keeps its ports over restarts."""

    directory: Path
    name: str
    host: str = HOST
    encrypt: str = ""
    join: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    rpc_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def rpc(self) -> str:
        return f"{HOST}:{self.rpc_port}"

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def log(self) -> str:
        return (self.directory / f"{self.name}.log").read_text(errors="replace")

    def has_heard(self, event: str) -> bool:
        """Whether that user event was delivered, in a packet or with a push/pull."""
        return f"Received event: user-event: {event}" in self.log

    def start(self, key: str = AUTH_KEY) -> None:
        """Start it and return once its RPC answers."""
        config = self.directory / f"{self.name}.json"
        config.write_text(CONFIG.replace(AUTH_KEY, key))
        command = agent_command(
            self.name, self.port, self.rpc_port, str(config), encrypt=self.encrypt, profile="local", host=self.host
        )
        command += [*(f"-join={one}" for one in self.join), *self.options]
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ())
        until(lambda: serf(self.rpc, "members", key=key).returncode == 0, f"the agent {self.name} answers")

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def members(self) -> dict[str, str]:
        """Its members and their states."""
        said = serf(self.rpc, "members").stdout
        return {line.split()[0]: line.split()[2] for line in said.splitlines()}

    def line_of(self, name: str) -> str:
        """What `serf members` says of one member."""
        lines = serf(self.rpc, "members").stdout.splitlines()
        return next((line for line in lines if line.split()[0] == name), "")

    def wait_state(self, name: str, state: str) -> None:
        """Return once it holds `name` for that."""
        until(lambda: self.members().get(name) == state, f"{self.name} sees {name} {state}", SETTLE_S)


@contextlib.contextmanager
def real_agents(
    count: int, *, encrypt: str = "", join: Sequence[str] = (), host: str = HOST
) -> Iterator[list[RealAgent]]:
    """So many agents, each joined to the first and to `join`; killed at the end."""
    with tempfile.TemporaryDirectory(prefix="orca-serf-", ignore_cleanup_errors=True) as made:
        agents: list[RealAgent] = []
        try:
            for number in range(count):
                first = (agents[0].address,) if agents else ()
                agent = RealAgent(
                    Path(made), name=f"real{number + 1}", host=host, encrypt=encrypt, join=(*join, *first)
                )
                agents.append(agent)
                agent.start()
            yield agents
        except BaseException:
            for agent in agents:
                print(f"---- log of {agent.name}\n{agent.log[-2000:]}")  # noqa: T201
            raise
        finally:
            for agent in agents:
                if agent.process is not None and agent.process.poll() is None:
                    agent.kill()
