"""One node of a simulated gossip cluster, over all its lives."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gossip.codec.packets import PacketCodec
from gossip.codec.streams import StreamReader
from gossip.effects import OpenStream, ReplyStream, SendDatagram
from gossip.events import DatagramReceived, IoEvent, StallNoticed, Tick
from gossip.machine import Gossip, GossipConfig
from gossip.messages import Address
from gossip.serf import LeaveRequested, Left, PersistPeers, Stage, TagsChanged
from gossip.swim import JoinEnded, JoinRequested
from orca.model.units import Instant
from simulations.members.streams import Streams
from simulations.network import Network
from simulations.world import Timer, World

STALL_S: Final = 0.1
"""As the driver has it: a timer so late is a stalled loop."""
SOCKET_BYTES: Final = 2 * 2**20
"""What waits in the socket of a member that stands still; what comes on top is lost."""
QUEUE_S_MAX: Final = 8.0
"""A member that is slower than what comes in lets that wait no longer; its socket is full then."""
JOIN_RETRY_S: Final = 1.0
_NEVER: Final = Instant(float("inf"))


class Surroundings(msgspec.Struct, kw_only=True):
    """What all members of a group share.

    `publish(member, news)` gets every effect that is no IO. `notices_stalls` False: a loop that stood still is
    not told so, as in memberlist.
    """

    world: World
    network: Network[bytes]
    streams: Streams
    config: GossipConfig
    make_codec: Callable[[str], PacketCodec]
    publish: Callable[["Member", Any], None]
    notices_stalls: bool = True

    @property
    def patience_s(self) -> float:
        """A member that stands still for less than that is not to be buried for it."""
        return self.config.swim.suspicion_multiplier * self.config.swim.probe_interval_s


class MemberCounts(msgspec.Struct, kw_only=True):
    """What one node did, over all its lives; bytes are those of its datagrams."""

    steps: int = 0
    packets: int = 0
    packet_bytes: int = 0
    crashes: int = 0
    pauses: int = 0
    late: int = 0
    overflowed: int = 0


class Member:
    """A node. Nothing happens before `start`; `troubled_at` is when it last was not in full health."""

    machine_type: type[Gossip] = Gossip

    def __init__(self, node: str, address: Address, tags: Mapping[str, str], around: Surroundings) -> None:
        self.node = node
        self.address = address
        self.tags = dict(tags)
        self.life = 0
        self.troubled_at = Instant(float("-inf"))
        self.is_up = False
        self.is_leaving = False
        self.slow_s = 0.0
        """Mean seconds that each message and each turn of a timer takes."""
        self.counts = MemberCounts()
        self.machine: Gossip
        self._around = around
        self._world = around.world
        self._chance = around.world.chance(f"{node}/process")
        self._saved: PersistPeers | None = None
        self._seeds: tuple[Address, ...] = ()
        self._timer: Timer | None = None
        self._paused_at: Instant | None = None
        self._pause_ends_at = Instant(0.0)
        self._backlog: list[IoEvent] = []
        self._backlog_bytes = 0
        self._free_at = 0.0
        self._due = _NEVER
        self._block_ends_at = Instant(0.0)
        self._held: list[SendDatagram | OpenStream | ReplyStream] = []

    # Lives

    def start(self, seeds: tuple[Address, ...] = ()) -> None:
        """Begin a life: with what the last one kept, and a join that is tried until somebody answers."""
        assert not self.is_up, f"{self.node} is up"
        around = self._around
        self.life += 1
        self.is_up, self.is_leaving = True, False
        if self.life > 1:
            self.troubled_at = self._world.now
        self.machine = self.machine_type(
            around.config,
            self.node,
            self.address,
            self.tags,
            around.make_codec(f"{self.node}/{self.life}"),
            self._world.chance(f"{self.node}/{self.life}"),
            self._world.now,
            life=self.life,
            saved=self._saved,
        )
        around.network.attach(self.address, self._receive)
        around.streams.attach(self.address, self)
        self._world.note(f"{self.node} starts, life {self.life}")
        self._step(Tick())
        self._seeds = tuple(seed for seed in seeds if seed != self.address)
        if self._seeds:
            self._join(self.life)

    def _join(self, life: int) -> None:
        if self.life == life and self.is_up and not self.is_leaving:
            self.tell(JoinRequested(handle=life, addresses=self._seeds))

    def crash(self) -> None:
        """It is gone, without a word."""
        if self.is_up:
            self.counts.crashes += 1
            self._world.note(f"{self.node} crashes")
            self._end_life()

    def _end_life(self) -> None:
        self.is_up = False
        self.troubled_at = self._world.now
        self._around.network.detach(self.address)
        self._around.streams.detach(self.address)
        self._backlog, self._backlog_bytes, self._held = [], 0, []
        self._paused_at, self._block_ends_at = None, Instant(0.0)
        self._pause_ends_at, self._free_at = Instant(0.0), 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self) -> None:
        """Say farewell; the process ends when that is done."""
        if self.is_up and not self.is_leaving and self.machine.serf.stage is Stage.MEMBER:
            self.is_leaving = True
            self._world.note(f"{self.node} leaves")
            self.tell(LeaveRequested())

    def retag(self, tags: Mapping[str, str]) -> None:
        """It says something else about itself, now and in its next lives."""
        self.tags = dict(tags)
        if self.is_up and not self.is_leaving:
            self.tell(TagsChanged(tags=self.tags))

    # Trouble

    @property
    def has_forgotten(self) -> bool:
        """Whether it kept no peers of an earlier life."""
        return self._saved is None or not self._saved.peers

    @property
    def is_paused(self) -> bool:
        """Whether it stands still."""
        return self._paused_at is not None

    def is_well(self, for_s: float) -> bool:
        """Whether it is up, and was in full health for the last `for_s` seconds."""
        is_hale = self.is_up and not self.slow_s
        return is_hale and self._world.now - self.troubled_at > for_s

    def pause(self, seconds: float) -> None:
        """It stands still so long; what comes meanwhile waits in its socket, and its timers wake late."""
        if not self.is_up:
            return
        self._world.note(f"{self.node} stands still for {seconds:.3f} s")
        self.counts.pauses += 1
        self._paused_at = self._world.now if self._paused_at is None else self._paused_at
        self._pause_ends_at = Instant(max(self._pause_ends_at, self._world.now + seconds))
        if self._pause_ends_at - self._paused_at > self._around.patience_s:
            self.troubled_at = self._pause_ends_at
        life = self.life
        self._world.after(seconds, lambda: self._resume(life))

    def block(self, seconds: float) -> None:
        """For so long it reads nothing, and nothing that it says gets out; its timers go on."""
        if not self.is_up:
            return
        self._block_ends_at = Instant(max(self._block_ends_at, self._world.now + seconds))
        life = self.life
        self._world.after(seconds, lambda: self._unblock(life))

    def _unblock(self, life: int) -> None:
        if self.life != life or self._world.now < self._block_ends_at - 1e-9:
            return
        held, self._held = self._held, []
        for effect in held:
            self._send(effect)
        backlog, self._backlog, self._backlog_bytes = self._backlog, [], 0
        for event in backlog:
            self.hear(event)

    @property
    def is_blocked(self) -> bool:
        """Whether neither in nor out anything gets."""
        return self._world.now < self._block_ends_at - 1e-9

    def recover(self) -> None:
        """It neither stands still nor is slow from now on."""
        if self.slow_s:
            self.slow_s, self.troubled_at = 0.0, self._world.now
        if self.is_paused:
            self._pause_ends_at = self._world.now
            self._resume(self.life)

    def _resume(self, life: int) -> None:
        if self.life != life or self._paused_at is None or self._world.now < self._pause_ends_at - 1e-9:
            return
        self._paused_at = None
        backlog, self._backlog, self._backlog_bytes = self._backlog, [], 0
        timer_first = not self._around.notices_stalls or self._chance.happens(0.5)
        if timer_first:
            self._wake_late(self._due)
        for event in backlog:
            self.hear(event)
        if not timer_first:
            self._wake_late(self._due)
        if self.is_up:
            self._arm()

    def _wake_late(self, due: Instant) -> None:
        """What the driver does when its timer wakes at last."""
        late_s = self._world.now - due
        if late_s < 0 or not self.is_up:
            return
        if late_s > STALL_S:
            self.counts.late += 1
            if self._around.notices_stalls:
                self._step(StallNoticed(stall_s=late_s))
        if self.is_up:
            self._step(Tick())

    # Events

    def tell(self, event: Any) -> None:
        """Step an event of the node itself."""
        if self.is_up:
            self._step(event)

    def hear(self, event: IoEvent) -> None:
        """Something came from outside; it waits while the process stands still, or for its turn when it is slow."""
        if not self.is_up:
            return
        if self.is_paused or self.is_blocked:
            size = len(event.data) if isinstance(event, DatagramReceived) else 0
            if self._backlog_bytes + size > SOCKET_BYTES:
                self.counts.overflowed += 1
                return
            self._backlog_bytes += size
            self._backlog.append(event)
        elif self._free_at > self._world.now + QUEUE_S_MAX:
            self.counts.overflowed += 1
        elif self.slow_s or self._free_at > self._world.now:
            self._take_turn(lambda: self._step(event))
        else:
            self._step(event)

    def stream_input(self) -> StreamReader:
        """For the bytes of one stream."""
        return self.machine.stream_input()

    def _receive(self, sender: Any, data: bytes) -> None:
        self.hear(DatagramReceived(source=sender, data=data))

    def _take_turn(self, action: Callable[[], None]) -> None:
        """Do `action` when all that waits before it is done."""
        work_s = self._chance.pause_s(self.slow_s) if self.slow_s else 0.0
        self._free_at = max(self._free_at, self._world.now) + work_s
        life = self.life

        def act() -> None:
            if self.is_up and self.life == life:
                action()

        self._world.at(self._free_at, act)

    def _step(self, event: Any) -> None:
        self.counts.steps += 1
        for effect in self.machine.step(event, self._world.now):
            self._perform(effect)
        if self.is_up:
            self._arm()

    def _perform(self, effect: Any) -> None:
        match effect:
            case SendDatagram() | OpenStream() | ReplyStream():
                if self.is_blocked:
                    self._held.append(effect)
                else:
                    self._send(effect)
            case PersistPeers():
                self._saved = effect
            case JoinEnded(joined=0):
                life = self.life
                self._world.after(JOIN_RETRY_S * self._chance.uniform(1, 2), lambda: self._join(life))
            case Left():
                self._world.note(f"{self.node} has left")
                self._saved = None
                self._end_life()
            case _:
                self._around.publish(self, effect)

    def _send(self, effect: SendDatagram | OpenStream | ReplyStream) -> None:
        match effect:
            case SendDatagram(to=to, data=data):
                self.counts.packets += 1
                self.counts.packet_bytes += len(data)
                self._world.note(f"{self.node} to {to.host}", data)
                self._around.network.send(self.address, to, data, len(data))
            case OpenStream():
                self._around.streams.open(self.address, effect)
            case ReplyStream(stream=stream, data=data):
                self._around.streams.reply(stream, data)

    # Time

    def _arm(self) -> None:
        """One timer, at the machine's deadline or before it."""
        self._due = deadline = self.machine.deadline()
        if self._timer is not None:
            if self._timer.when <= deadline:
                return
            self._timer.cancel()
        self._timer = None if deadline == _NEVER else self._world.at(deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self.is_paused:
            return  # `_resume` looks at the time
        due = self._due
        if due > self._world.now:
            self._arm()
        elif self.slow_s or self._free_at > self._world.now:
            self._take_turn(lambda: self._wake_late(due))
        else:
            self._step(Tick())
