"""How facts are exchanged, and how much of them is held."""

import msgspec

KEY_BYTES_MAX = 128
"""A key is a short path such as `allocation/web-1/health`."""
VALUE_BYTES_MAX = 64 * 1024
"""A value above a packet travels by stream; above this it belongs elsewhere."""
VERSION_MAX = 2**62
"""Versions and incarnations above it are refused: one more must never leave 64 bits."""


class FactsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes.

    `push_interval_s`, `push_fanout`, `push_multiplier`: what is new is pushed every interval to
    `push_fanout` peers, `push_multiplier` x log10(n + 1) times in all, as SWIM does with its
    claims; 0.25 s and 2 tell 64 nodes in about 1.5 s.
    `summary_interval_s`: how often one random peer is asked whether we know the same, after
    something changed. `summary_stretch_max`: in silence each wait is twice the one before, up to
    so many times the interval; an idle cluster costs each node one small packet in that time.
    `packet_bytes_max`: a frame in a packet of 1,400 bytes beside label, seal and CRC.
    `bulk_bytes_max`, `bulk_interval_s`: size of a frame on a stream, and how soon the same peer
    may get another.
    `answer_packets_max`: packets in answer to one frame; what needs more goes by stream.
    `writer_facts_max`, `writer_bytes_max`: of one node, tombstones included.
    `total_bytes_max`: of all nodes; our own facts always have room.
    `writers_max`: nodes whose facts are held.
    `accept_per_s`, `accept_burst`: facts of one writer taken in; the burst is a whole state.
    `frames_per_s`, `frames_burst`: frames of one peer that are read.
    `tombstone_keep_s`: how long a removal is remembered item by item.
    `departed_keep_s`: how long facts of a departed node are held.
    `refusal_s`: how long a writer that broke a limit is not asked about.
    """

    push_interval_s: float = 0.25
    push_fanout: int = 2
    push_multiplier: int = 3
    summary_interval_s: float = 1.0
    summary_stretch_max: float = 8.0
    packet_bytes_max: int = 1300
    bulk_bytes_max: int = 1 << 20
    bulk_interval_s: float = 1.0
    answer_packets_max: int = 4
    writer_facts_max: int = 1024
    writer_bytes_max: int = 256 * 1024
    total_bytes_max: int = 64 << 20
    writers_max: int = 16_384
    accept_per_s: float = 100.0
    accept_burst: int = 2048
    frames_per_s: float = 100.0
    frames_burst: int = 400
    tombstone_keep_s: float = 600.0
    departed_keep_s: float = 3600.0
    refusal_s: float = 60.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be positive")
        if self.summary_stretch_max < 1:
            raise ValueError(f"summary_stretch_max is {self.summary_stretch_max}; below 1 silence would be louder")
        if not 512 <= self.packet_bytes_max <= self.bulk_bytes_max:
            raise ValueError(
                f"packet_bytes_max is {self.packet_bytes_max}; it has to be 512 to bulk_bytes_max,"
                f" {self.bulk_bytes_max}"
            )
        if self.accept_burst < self.writer_facts_max:
            raise ValueError(
                f"accept_burst is {self.accept_burst}; below writer_facts_max, {self.writer_facts_max},"
                " a full state could never come in at once"
            )
        if self.bulk_bytes_max < 2 * VALUE_BYTES_MAX:
            raise ValueError(f"bulk_bytes_max is {self.bulk_bytes_max}; the largest value needs {2 * VALUE_BYTES_MAX}")
