"""One piece of a recording, and how each kind of it is read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from consensus.feed.messages import decode_feed
from consensus.raft import decode_message as decode_raft
from consensus.state.commands import decode_command
from consensus.state.snapshot import decode_snapshot
from gossip.facts.frames import decode_frame
from node.api.passport import read_passport
from node.trust.messages import decode_message as decode_trust
from orca.model.allocation import AllocationStatus
from orca.model.node import NodeFacts
from orca.model.view import ChangeReply, EventsReply, NodesReply, ServicesReply, StatusReply

PEERS: Final = Path(__file__).parent / "peers"
_REPLIES: Final = (StatusReply, ServicesReply, EventsReply, NodesReply, ChangeReply)


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes in hex, and as values of JSON what they meant to the release that said them (None: see its test)."""

    kind: str
    name: str
    data: str
    means: Any = None

    @property
    def content(self) -> bytes:
        return bytes.fromhex(self.data)


def _json_reader(kind: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    return lambda content: msgspec.json.decode(content, type=kind)


READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "raft": decode_raft,
    "feed": decode_feed,
    "trust": decode_trust,
    "facts": decode_frame,
    "node_fact": lambda content: msgspec.msgpack.decode(content, type=NodeFacts),
    "status_fact": lambda content: msgspec.msgpack.decode(content, type=AllocationStatus),
    "command": decode_command,
    "state": decode_snapshot,
    "passport": read_passport,
    **{kind.__name__: _json_reader(kind) for kind in _REPLIES},
}


def meaning(read: Any) -> Any:
    """What was read, as values of JSON."""
    return msgspec.json.decode(msgspec.json.encode(read))


def load(release: Path) -> dict[tuple[str, str], Piece]:
    """The pieces of one recording."""
    pieces = msgspec.json.decode(release.read_bytes(), type=list[Piece])
    return {(piece.kind, piece.name): piece for piece in pieces}


def save(release: Path, pieces: list[Piece]) -> None:
    """Write a recording, a piece a line."""
    lines = ",\n".join(msgspec.json.encode(piece).decode() for piece in pieces)
    release.write_text(f"[\n{lines}\n]\n")
