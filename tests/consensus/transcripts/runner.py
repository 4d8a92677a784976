"""Plays a transcript: commands in, the conversation of the nodes out.

A transcript is paragraphs. A paragraph is one command, a line `----`, and what came of it: effects that say something
(`n1: leads term 1`), letters as they are delivered (`n1 -> n2 AppendEntries t1 ...`), and answers. Lines that begin
with `#` tell the story. The conversation is compared as a whole, so a letter more or less is found.

Commands, one a paragraph:

    group NODES [voters=N] [snapshot=BYTES]   begin anew; n1, n2, ... of which the first N vote
    elect NODE                the election timeout passes and NODE's timer ends first
    run SECONDS               timers and letters work as they should; nobody is quoted
    tick NODE                 the deadline of NODE comes
    wait SECONDS              time passes; nothing happens by itself
    deliver [FROM [TO]] [type=TYPE] [max=N]   the letters waiting, from, to; what they cause waits
    repeat [FROM [TO]] [type=TYPE] [max=N]    the same, and they will come once more
    settle                    deliver everything, and what that causes
    (with quiet=yes, elect and settle do not quote letters)
    lose [FROM [TO]] [type=TYPE] [max=N]      those letters are lost
    post                      show what waits
    propose NODE PAYLOAD...   one step with all of them
    read NODE | compact NODE | transfer NODE [TO] | add NODE WHO | promote NODE WHO | remove NODE WHO
    kill NODE... | restart NODE... | isolate NODE... | cut FROM TO | heal
    fill NODE | empty NODE    the disk takes nothing that grows, or everything again
    log NODE... | status      show
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from consensus.raft import (
    Accepted,
    AddLearner,
    Apply,
    Effect,
    LeaderChanged,
    MembershipChanged,
    Message,
    Noted,
    Outranked,
    Promote,
    ProposalId,
    ProposalLost,
    ProposalRejected,
    Proposed,
    ProposedMany,
    ReadReady,
    ReadRejected,
    Remove,
    RestoreSnapshot,
    Role,
    Tick,
    TransferRequested,
)
from consensus.raft.messages import (
    AppendEntries,
    AppendReply,
    ForwardProposals,
    ForwardRead,
    ForwardReadReply,
    ForwardReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    RequestVote,
    SnapshotReply,
    VoteReply,
)
from consensus.storage import Entry, EntryKind, Membership, decode_membership
from orca.model.ids import NodeId
from orca.model.units import Instant
from tests.consensus.raft.group import CONFIG, Group, Letter


def paragraphs(text: str) -> Iterator[tuple[str, str, str]]:
    """(what stands before the command, the command, the expected conversation) of a transcript."""
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        comments = [line for line in lines if line.startswith("#")]
        rest = [line for line in lines if not line.startswith("#")]
        if rest:
            assert rest[1:2] == ["----"], f"a command, then ----: {rest}"
            yield "\n".join(comments), rest[0], "\n".join(rest[2:])
        else:
            yield "\n".join(comments), "", ""


def play(path: Path) -> tuple[str, str]:
    """The transcript as it stands, and as it is now."""
    text = path.read_text()
    player = Player()
    blocks = []
    for comments, command, _ in paragraphs(text):
        parts = [comments] if comments else []
        if command:
            parts += [command, "----", *player.play(command)]
        blocks.append("\n".join(parts))
    return text, "\n\n".join(blocks) + "\n"


class Player:
    """One group, and what it said since the last command."""

    def __init__(self) -> None:
        self.group = Group()
        self._said: list[str] = []
        self._seen = 0

    def play(self, command: str) -> list[str]:
        """Carry out one command; the conversation, line by line."""
        words = command.split()
        options = dict(word.split("=") for word in words[1:] if "=" in word)
        names = [word for word in words[1:] if "=" not in word]
        self._said = []
        handler: Callable[[list[str], dict[str, str]], None] = getattr(self, f"_do_{words[0]}")
        handler(names, options)
        self._tell()
        return self._said or ["(nothing)"]

    def _tell(self) -> None:
        """Say what the effects since the last time say."""
        for node, effect in self.group.journal[self._seen :]:
            line = describe(effect)
            if line:
                self._said.append(f"{node}: {line}")
        self._seen = len(self.group.journal)

    def _do_group(self, names: list[str], options: dict[str, str]) -> None:
        config = msgspec.structs.replace(CONFIG, snapshot_chunk_bytes=int(options.get("snapshot", "24")))
        nodes = int(names[0])
        self.group = Group(nodes, int(options.get("voters", nodes)), config=config)
        self._seen = 0
        for node in self.group.members:
            self.group.step(node, Tick()) if nodes > 1 and self._is_group(node) else None

    def _is_group(self, node: NodeId) -> bool:
        return len(self.group[node].membership.voters) != 1

    def _do_elect(self, names: list[str], options: dict[str, str]) -> None:
        self.group.now = Instant(self.group.now + self.group.config.election_timeout_s)
        self.group.tick(names[0])
        self._do_settle([], options)

    def _do_run(self, names: list[str], _: dict[str, str]) -> None:
        self.group.run(float(names[0]))

    def _do_tick(self, names: list[str], _: dict[str, str]) -> None:
        for name in names:
            self.group.tick(name)

    def _do_wait(self, names: list[str], _: dict[str, str]) -> None:
        self.group.now = Instant(self.group.now + float(names[0]))

    def _do_deliver(self, names: list[str], options: dict[str, str]) -> None:
        for letter in self._chosen(names, options):
            self._deliver(letter)

    def _do_repeat(self, names: list[str], options: dict[str, str]) -> None:
        for letter in self._chosen(names, options):
            self._deliver(letter)
            self.group.post.append(letter)

    def _do_lose(self, names: list[str], options: dict[str, str]) -> None:
        for letter in self._chosen(names, options):
            self.group.post.remove(letter)
            self._said.append(f"lost: {show_letter(letter)}")

    def _do_settle(self, _names: list[str], options: dict[str, str]) -> None:
        if "quiet" in options:
            self.group.settle()
        else:
            self._settle()

    def _do_post(self, _names: list[str], _: dict[str, str]) -> None:
        self._said += [show_letter(letter) for letter in self.group.post]

    def _do_propose(self, names: list[str], _: dict[str, str]) -> None:
        proposals = []
        for word in names[1:]:
            self.group.proposals += 1
            proposal_id = ProposalId(self.group.proposals)
            self.group.payloads[proposal_id] = word.encode()
            proposals.append(Proposed(proposal_id=proposal_id, payload=word.encode()))
        self.group.step(names[0], ProposedMany(proposals=tuple(proposals)))

    def _do_read(self, names: list[str], _: dict[str, str]) -> None:
        self.group.read(names[0])

    def _do_compact(self, names: list[str], _: dict[str, str]) -> None:
        self.group.compact(names[0])
        self._said.append(f"{names[0]}: snapshot up to {self.group[names[0]].snapshot_index}")

    def _do_transfer(self, names: list[str], _: dict[str, str]) -> None:
        to = NodeId(names[1]) if len(names) > 1 else None
        self.group.step(names[0], TransferRequested(to=to))

    def _do_add(self, names: list[str], _: dict[str, str]) -> None:
        self.group.change(names[0], AddLearner(node=NodeId(names[1])))

    def _do_promote(self, names: list[str], _: dict[str, str]) -> None:
        self.group.change(names[0], Promote(node=NodeId(names[1])))

    def _do_remove(self, names: list[str], _: dict[str, str]) -> None:
        self.group.change(names[0], Remove(node=NodeId(names[1])))

    def _do_kill(self, names: list[str], _: dict[str, str]) -> None:
        self.group.kill(*names)

    def _do_restart(self, names: list[str], _: dict[str, str]) -> None:
        self.group.restart(*names)
        for name in names:
            self.group.step(name, Tick())  # timers begin to run

    def _do_isolate(self, names: list[str], _: dict[str, str]) -> None:
        self.group.isolate(*names)

    def _do_cut(self, names: list[str], _: dict[str, str]) -> None:
        self.group.cuts[NodeId(names[0]), NodeId(names[1])] = None

    def _do_heal(self, _names: list[str], _: dict[str, str]) -> None:
        self.group.heal()

    def _do_fill(self, names: list[str], _: dict[str, str]) -> None:
        self.group.members[NodeId(names[0])].store.bytes_max = 0

    def _do_empty(self, names: list[str], _: dict[str, str]) -> None:
        self.group.members[NodeId(names[0])].store.bytes_max = None

    def _do_log(self, names: list[str], _: dict[str, str]) -> None:
        for name in names or list(self.group.members):
            loaded = self.group.members[NodeId(name)].store.load()
            begin = f"[..{loaded.snapshot_index}] " if loaded.snapshot is not None else ""
            self._said.append(f"{name}: {begin}{show_entries(loaded.entries)}")

    def _do_status(self, _names: list[str], _: dict[str, str]) -> None:
        for node, member in self.group.members.items():
            machine = member.machine
            if not member.is_up:
                self._said.append(f"{node}: down")
                continue
            follows = f" of {machine.leader}" if machine.role is Role.FOLLOWER and machine.leader else ""
            self._said.append(
                f"{node}: {machine.role.value}{follows}, term {machine.term}, "
                f"commit {machine.commit_index} of {machine.last_index}, {show_group(machine.membership)}"
            )

    def _chosen(self, names: list[str], options: dict[str, str]) -> list[Letter]:
        """The letters that wait now and fit."""
        chosen = [
            letter
            for letter in self.group.post
            if (not names or letter[0] == names[0])
            and (len(names) < 2 or letter[1] == names[1])
            and type(letter[2]).__name__ == options.get("type", type(letter[2]).__name__)
        ]
        return chosen[: int(options.get("max", len(chosen)))]

    def _deliver(self, letter: Letter) -> None:
        self._tell()
        sender, to, _ = letter
        is_lost = (sender, to) in self.group.cuts or not self.group.members[to].is_up
        self._said.append(show_letter(letter) + (" (lost)" if is_lost else ""))
        self.group.deliver(self.group.post.index(letter))
        self._tell()

    def _settle(self) -> None:
        for _ in range(500):
            if not self.group.post:
                return
            self._deliver(self.group.post[0])
        raise AssertionError("the nodes never stop talking")


def describe(effect: Effect) -> str:
    """What an effect says to somebody outside; "" for saves and letters."""
    match effect:
        case LeaderChanged(term=term, leader=leader):
            return f"in term {term} {leader or 'nobody'} leads"
        case Apply(entries=entries):
            return f"applies {show_entries(entries)}"
        case MembershipChanged(membership=membership, index=index):
            return f"as of {index} {show_group(membership)}"
        case RestoreSnapshot(snapshot=snapshot):
            return f"restores the state of {snapshot.meta.last_index}"
        case Outranked(epoch=epoch):
            return f"outranked by epoch {epoch}"
        case Noted(message=message):
            return f'"{message}"'
        case _:
            return _describe_answer(effect)


def _describe_answer(effect: Effect) -> str:
    match effect:
        case Accepted(proposal_id=proposal_id, term=term, index=index):
            return f"proposal {proposal_id} is {index}/t{term}"
        case ProposalRejected(proposal_id=proposal_id, reason=reason, detail=detail, leader=leader):
            more = f", ask {leader}" if leader else ""
            return f"proposal {proposal_id} rejected, {reason.value}{more}{': ' if detail else ''}{detail}"
        case ProposalLost(proposal_id=proposal_id):
            return f"proposal {proposal_id} lost"
        case ReadReady(read_id=read_id, index=index):
            return f"read {read_id} from {index}"
        case ReadRejected(read_id=read_id, reason=reason, leader=leader):
            return f"read {read_id} rejected, {reason.value}{f', ask {leader}' if leader else ''}"
        case _:
            return ""


def show_group(membership: Membership) -> str:
    """Voters, and learners in brackets."""
    learners = f" (+ {' '.join(membership.learners)})" if membership.learners else ""
    return f"{{{' '.join(membership.voters)}{learners}}}"


def show_entries(entries: tuple[Entry, ...]) -> str:
    """index/term=payload of each."""
    return " ".join(_show_entry(entry) for entry in entries) or "nothing"


def _show_entry(entry: Entry) -> str:
    payload = entry.payload.decode(errors="replace")
    if entry.kind is EntryKind.MEMBERSHIP:
        payload = show_group(decode_membership(entry.payload))
    return f"{entry.index}/t{entry.term}={payload or 'no-op'}"


def show_letter(letter: Letter) -> str:
    """One letter in a line."""
    sender, to, message = letter
    return f"{sender} -> {to} {type(message).__name__} t{message.term}{_show_message(message)}"


def _show_message(message: Message) -> str:
    match message:
        case PreVote() | RequestVote():
            mark = " transfer" if isinstance(message, RequestVote) and message.is_transfer else ""
            return f" log {message.last_index}/t{message.last_term}{mark}"
        case PreVoteReply() | VoteReply():
            return " yes" if message.is_granted else " no"
        case AppendEntries():
            after = f" after {message.prev_index}/t{message.prev_term}"
            return f"{after}: {show_entries(message.entries)}; commit {message.commit_index}"
        case AppendReply():
            if message.is_accepted:
                return f" stored {message.index}"
            return f" no {message.index}, try {message.hint_index}/t{message.hint_term}"
        case _:
            return _show_upkeep(message)


def _show_upkeep(message: Message) -> str:
    match message:
        case Heartbeat():
            return f" commit {message.commit_index}" + (f" round {message.round}" if message.round else "")
        case HeartbeatReply():
            return f" round {message.round}"
        case InstallSnapshot():
            end = " end" if message.is_last else ""
            return (
                f" {message.meta.last_index}/t{message.meta.last_term} bytes {message.offset}+{len(message.data)}{end}"
            )
        case SnapshotReply():
            return f" {message.last_index} wants {message.next_offset}"
        case _:
            return _show_forwarded(message)


def _show_forwarded(message: Message) -> str:
    match message:
        case ForwardProposals():
            return " " + " ".join(one.payload.decode(errors="replace") for one in message.proposals)
        case ForwardReply():
            answers = [str(one.index) if one.reason is None else one.reason.value for one in message.answers]
            return f" {' '.join(answers)}"
        case ForwardRead():
            return f" {' '.join(map(str, message.read_ids))}"
        case ForwardReadReply():
            return f" {' '.join(map(str, message.read_ids))} from {message.index}"
        case _:
            return ""
