"""Clients that write and read registers through the API of any node, and the history of what they were told.

A register is a service without copies. A write puts a spec with a word of its own and is told the revision
that this made: the register's value is the words of all its revisions, so a write is an append whose answer
says how many came before. A read asks for a scale to what is there, which goes through the log and changes nothing,
and is told the revision too. The words themselves are read at the end, from every node. Revisions are kept twenty
deep, so a register is left after fewer writes than that and another taken.
"""

import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from simulations.checkers.linearizable import judge_history
from simulations.history import Ending, History, Record
from simulations.registers import Kind, Operation, Outcome
from tests.cluster.cluster import CHANGED, Cluster, Peer
from tests.integration.node import Reply, until

WRITES_A_REGISTER = 15
REGISTERS_AT_ONCE = 3
ATTEMPT_S = 4.0
GIVE_UP_S = 12.0
PAUSE_S = 0.06


@dataclass
class Asked:
    """One operation: what was asked, and the revision that it was told, if any."""

    record: Record
    ending: Ending = Ending.OPEN
    returned: int | None = None
    revision: int | None = None


@dataclass
class Clients:
    """Several clients at once, until `stop`; each asks one thing at a time."""

    cluster: Cluster
    seed: int
    count: int = 4
    asked: list[Asked] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._registers = self._names()
        self._writes_left: dict[str, int] = {next(self._registers): WRITES_A_REGISTER for _ in range(REGISTERS_AT_ONCE)}
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return when the last answer is there."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(GIVE_UP_S * 3)
            assert not thread.is_alive(), "a client came to an end"
        assert not self.problems, self.problems[:3]

    def _names(self) -> Iterator[str]:
        return (f"r{number}" for number in itertools.count())

    def _choose(self, rng: random.Random, *, is_write: bool) -> str:
        with self._lock:
            name = rng.choice(sorted(self._writes_left))
            if is_write:
                self._writes_left[name] -= 1
                if not self._writes_left[name]:
                    del self._writes_left[name]
                    self._writes_left[next(self._registers)] = WRITES_A_REGISTER
            return name

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self.seed} {number}")
        try:
            for turn in itertools.count():
                if self._is_over.wait(rng.uniform(0, 2 * PAUSE_S)):
                    return
                self._ask(rng, f"c{number}", turn)
        except Exception as error:  # noqa: BLE001 - a thread that dies must fail the test
            self.problems.append(repr(error))

    def _ask(self, rng: random.Random, client: str, turn: int) -> None:
        is_write = rng.random() < 0.6
        key, request = self._choose(rng, is_write=is_write), f"{self.seed}-{client}-{turn}"
        kind, word = (Kind.APPEND, f"{client}t{turn}") if is_write else (Kind.READ, "")
        operation = Operation(request=request, key=key, kind=kind, word=word)
        one = Asked(Record(client, operation, time.monotonic_ns()))
        self.asked.append(one)
        may_have_happened = False
        give_up_at = time.monotonic() + GIVE_UP_S
        while time.monotonic() < give_up_at:
            node = rng.choice(self.cluster.nodes)
            try:
                reply = _send(node, operation)
            except ConnectionRefusedError:
                reply = None
            except OSError:
                may_have_happened = True
                reply = None
            if reply is not None and (revision := _revision_of(reply)) is not None:
                one.revision, one.ending, one.returned = revision, Ending.DONE, time.monotonic_ns()
                return
            if reply is not None and not reply.json()["error"].get("is_definite", False):
                may_have_happened = True
            self._is_over.wait(rng.uniform(0.02, 0.2))
        one.ending, one.returned = Ending.UNKNOWN if may_have_happened else Ending.FAILED, time.monotonic_ns()

    # ------------------------------------------------------------------ afterwards

    def check(self) -> str:
        """Raise AssertionError unless everything acknowledged is there and the history is linearizable."""
        assert self._is_over.is_set(), "the clients have stopped"
        words = self._words_everywhere()
        history = History()
        for one in self.asked:
            key = one.record.operation.key
            outcome = None
            if one.revision is not None:
                assert one.revision <= len(words[key]), f"{one.record} was told revision {one.revision}: {words[key]}"
                outcome = Outcome(value=" ".join(words[key][: one.revision]))
            if outcome is not None and one.record.operation.kind is Kind.APPEND:
                assert one.revision is not None
                assert words[key][one.revision - 1] == one.record.operation.word, f"lost: {one.record}, {words[key]}"
            assert one.returned is not None
            one.record.end(one.ending, one.returned, outcome)
            history.add(one.record)
        for number, (key, found) in enumerate(sorted(words.items())):
            assert len(found) == len(set(found)), f"a write of {key} was carried out twice: {found}"
            last = Record("last", Operation(request=f"last{number}", key=key, kind=Kind.READ), time.monotonic_ns())
            last.end(Ending.DONE, time.monotonic_ns(), Outcome(value=" ".join(found)))
            history.add(last)
        bad = [str(verdict) for verdict in judge_history(history) if not verdict.is_linearizable]
        assert not bad, f"seed {self.seed}: " + "\n".join(bad)
        return self.describe(len(words))

    def _words_everywhere(self) -> dict[str, list[str]]:
        """The words of each register, the same on every node."""
        keys = sorted({one.record.operation.key for one in self.asked})
        first, *others = self.cluster.living
        found = {key: first.words(key) for key in keys}

        for node in others:
            for key in keys:
                until(lambda node=node, key=key: node.words(key) == found[key], f"{node.name} knows {key}")  # type: ignore[misc]
        return found

    def acknowledged(self) -> int:
        """Writes that a client was told were carried out."""
        return sum(one.ending is Ending.DONE and one.record.operation.kind is Kind.APPEND for one in list(self.asked))

    def longest_gap_s(self) -> float:
        """The longest time in which nobody was told of a success."""
        times = sorted(one.returned for one in self.asked if one.ending is Ending.DONE and one.returned is not None)
        return max((after - before for before, after in itertools.pairwise(times)), default=0) / 1e9

    def describe(self, registers: int) -> str:
        counts = {ending.value: sum(one.ending is ending for one in self.asked) for ending in Ending}
        return (
            f"{self.acknowledged()} acknowledged writes on {registers} registers, {counts}, linearizable; "
            f"longest time without a success {self.longest_gap_s():.1f} s"
        )


def _send(node: Peer, operation: Operation) -> Reply:
    if operation.kind is Kind.APPEND:
        return node.write(operation.key, operation.word, operation.request, timeout_s=ATTEMPT_S)
    body = {"replicas": 0, "request_id": operation.request}
    return node.post(f"/v1/services/default/{operation.key}/scale", body, timeout_s=ATTEMPT_S)


def _revision_of(reply: Reply) -> int | None:
    """The revision that a success tells of; 0 for a register that was never written."""
    body = json.loads(reply.body)
    if reply.status in CHANGED:
        return int(body["changes"][0]["revision"])
    return 0 if reply.status == 404 and body["error"]["code"] == "not_found" else None
