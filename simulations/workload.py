"""Clients: they write, append, swap and read, try again elsewhere, and write down what they were told."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from orca.model.ids import NodeId
from simulations.history import Ending, History, Record
from simulations.registers import Answer, Done, Kind, Operation, Refused
from simulations.subjects.port import Subject
from simulations.world import Timer, World


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """How clients behave; times are means of exponential pauses, but for the time-outs.

    An attempt that is not answered for `attempt_timeout_s` is tried elsewhere under the same request; after
    `patience_s` the client gives up, and does not know. `follows_leader` is how often it asks whom it believes to lead.
    """

    think_s: float = 0.15
    retry_s: float = 0.1
    attempt_timeout_s: float = 1.5
    patience_s: float = 6.0
    follows_leader: float = 0.6
    keys: int = 3
    kinds: tuple[Kind, ...] = (Kind.READ, Kind.READ, Kind.WRITE, Kind.APPEND, Kind.APPEND, Kind.SWAP)


class Client:
    """One thing after the other."""

    def __init__(
        self, name: str, world: World, subjects: Mapping[NodeId, Subject], history: History, manners: Manners
    ) -> None:
        self.name = name
        self._world = world
        self._subjects = subjects
        self._history = history
        self._manners = manners
        self._chance = world.chance(name)
        self._count = 0
        self._last_seen: dict[str, str] = {}
        self._record: Record | None = None
        self._is_in_doubt = False
        self._give_up_at = 0.0
        self._attempt = 0
        self._timer: Timer | None = None
        self._is_stopped = False

    @property
    def is_idle(self) -> bool:
        """Whether it waits for nothing."""
        return self._record is None

    def start(self) -> None:
        """Begin, after a while."""
        self._world.after(self._chance.pause_s(self._manners.think_s), self._ask_something)

    def stop(self) -> None:
        """End what is under way, begin nothing new."""
        self._is_stopped = True

    def ask(self, kind: Kind, key: str) -> None:
        """Begin an operation; it must be idle."""
        assert self._record is None, f"{self.name} waits for an answer"
        self._count += 1
        request = f"{self.name}.{self._count}"
        word = "" if kind is Kind.READ else request
        expected = self._last_seen.get(key, "") if kind is Kind.SWAP else ""
        operation = Operation(request=request, key=key, kind=kind, word=word, expected=expected)
        self._record = Record(self.name, operation, self._world.moment())
        self._history.add(self._record)
        self._is_in_doubt = False
        self._give_up_at = self._world.now + self._manners.patience_s
        self._try(self._record)

    def _ask_something(self) -> None:
        if not self._is_stopped:
            self.ask(self._chance.pick(self._manners.kinds), f"k{self._chance.between(1, self._manners.keys)}")

    def _try(self, record: Record) -> None:
        if record is not self._record:
            return
        if self._world.now >= self._give_up_at:
            self._end(Ending.UNKNOWN if self._is_in_doubt else Ending.FAILED)
            return
        self._attempt += 1
        attempt = self._attempt
        target = self._target()
        if target is None:
            self._set_timer(self._manners.retry_s, lambda: self._try(record))
            return
        self._set_timer(self._manners.attempt_timeout_s, lambda: self._in_vain(record))
        target.submit(record.operation, lambda answer: self._answered(record, attempt, answer))

    def _target(self) -> Subject | None:
        up = [subject for subject in self._subjects.values() if subject.is_up]
        if not up:
            return None
        asked = self._chance.pick(up)
        if asked.leader is not None and self._chance.happens(self._manners.follows_leader):
            leader = self._subjects.get(asked.leader)
            return leader if leader is not None and leader.is_up else asked
        return asked

    def _answered(self, record: Record, attempt: int, answer: Answer) -> None:
        if record is not self._record:
            return
        if isinstance(answer, Done):
            self._last_seen[record.operation.key] = answer.outcome.value
            record.end(Ending.DONE, self._world.moment(), answer.outcome)
            self._world.note(str(record))
            self._go_on()
        elif attempt == self._attempt:
            self._is_in_doubt |= not isinstance(answer, Refused)
            self._attempt += 1  # a second answer to the same attempt changes nothing
            self._set_timer(self._chance.pause_s(self._manners.retry_s), lambda: self._try(record))

    def _in_vain(self, record: Record) -> None:
        """The attempt was not answered in time, and may yet succeed."""
        if record is self._record:
            self._is_in_doubt = True
            self._try(record)

    def _set_timer(self, pause_s: float, action: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._world.after(pause_s, action)

    def _end(self, ending: Ending) -> None:
        assert self._record is not None
        self._record.end(ending, self._world.moment())
        self._world.note(str(self._record))
        self._go_on()

    def _go_on(self) -> None:
        self._record = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_stopped:
            self._world.after(self._chance.pause_s(self._manners.think_s), self._ask_something)


def make_clients(
    count: int, world: World, subjects: Mapping[NodeId, Subject], history: History, manners: Manners
) -> Sequence[Client]:
    """So many clients, which have not begun yet."""
    return [Client(f"c{number}", world, subjects, history, manners) for number in range(1, count + 1)]
