"""No node ever runs more than it has, whatever it was told and believed."""

from simulations.checkers.nodes import NodeChecker
from simulations.nodes.engine import Container
from simulations.nodes.node import Computer


class Capacity(NodeChecker):
    """Counts what really runs, each time that a container starts."""

    name = "capacity"

    def container(self, computer: Computer, word: str, container: Container) -> None:
        """Sum up what runs on that node."""
        if word != "started":
            return
        specs = [one.assignment.spec for one in computer.engine.containers.values() if one.is_running]
        cpu = sum(spec.resources.cpu_milli or 0 for spec in specs)
        memory = sum(spec.resources.memory_bytes or 0 for spec in specs)
        if cpu > computer.facts.cpu_milli or memory > computer.facts.memory_bytes:
            self.fail(
                f"{computer.node} runs {len(specs)} containers with {cpu} milli-cpu and {memory} bytes; "
                f"it has {computer.facts.cpu_milli} and {computer.facts.memory_bytes}"
            )
