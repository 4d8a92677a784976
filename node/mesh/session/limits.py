"""What a peer may do in a session, and what was counted."""

import msgspec

from node.mesh.session.words import Hello


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer may make this side keep, and how long it may be silent."""

    streams_max: int = 1024
    """At a time: a stream costs a task."""
    urgent_max: int = 2
    """One is used; another may be beginning while the first ends."""
    opens_per_s: int = 1000
    """A request costs one stream; as many may come at once."""
    stream_bytes: int = 2**20
    """Under way on one stream: at 20 ms it is 50 MB/s."""
    connection_bytes: int = 4 * 2**20
    """Under way on all streams: memory that a peer may fill while nobody reads."""
    answers_bytes_max: int = 64 * 1024
    """Of pongs and refusals that a peer provokes and does not read."""
    queue_bytes: int = 256 * 1024
    """Waiting on one stream before its sender has to wait."""
    hello_s: float = 5.0
    ping_interval_s: float = 5.0
    silence_s: float = 15.0
    """A peer that says nothing for so long, not even to a ping, is gone."""
    linger_s: float = 15.0
    """A released stream has so long to send what waits."""

    @property
    def soonest_s(self) -> float:
        """No session wants a `Tick` sooner after what gave it a reason to."""
        return min(self.hello_s, self.ping_interval_s, self.silence_s - self.ping_interval_s, self.linger_s)

    def hello(self, boot: bytes) -> Hello:
        """The greeting that tells the peer."""
        return Hello(
            boot=boot,
            stream_bytes=self.stream_bytes,
            connection_bytes=self.connection_bytes,
            streams_max=self.streams_max,
            opens_per_s=self.opens_per_s,
        )


class Counters(msgspec.Struct, kw_only=True):
    """What a session has seen, for those who watch it."""

    sent_bytes: int = 0
    received_bytes: int = 0
    opened: int = 0
    accepted: int = 0
    refused: int = 0
    stale: int = 0
    """Frames for streams that were over already, which happens when both sides end one at once."""
