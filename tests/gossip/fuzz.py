"""Bytes that nobody should send: recorded packets of real agents, damaged in every way that a byte string allows."""

import os
import random
from collections.abc import Iterator, Sequence
from typing import Final

CASES: Final = int(os.environ.get("ORCA_FUZZ_CASES", "20000"))
"""How many byte strings the codec gets; the sockets get a twentieth. 1000000 by night."""
SEED: Final = int(os.environ.get("ORCA_FUZZ_SEED", "1"))
BYTES_MAX: Final = 4096
_TELLING: Final = (0x00, 0x01, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xC0, 0xC4, 0xC6, 0xCF, 0xD9, 0xDC, 0xDD, 0xDF, 0xFF)
"""Bounds of msgpack's types, where readers break."""


def damaged(samples: Sequence[bytes], cases: int, seed: int = SEED) -> Iterator[bytes]:
    """So many byte strings: one to four damages each to a sample, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(cases):
        data = bytearray(rng.choice(samples))
        for _ in range(rng.randint(1, 4)):
            _damage(data, samples, rng)
        yield bytes(data[:BYTES_MAX])


def _damage(data: bytearray, samples: Sequence[bytes], rng: random.Random) -> None:
    place = rng.randint(0, len(data))
    match rng.randrange(7):
        case 0 if data:
            data[place - 1] = rng.randrange(256)
        case 1 if data:
            data[place - 1] = rng.choice(_TELLING)
        case 2 if data:
            data[place - 1] ^= 1 << rng.randrange(8)
        case 3:
            del data[place : place + rng.randint(1, 16)]
        case 4:
            data[place:place] = rng.randbytes(rng.randint(1, 8))
        case 5:  # the head of one and the end of another
            other = rng.choice(samples)
            data[place:] = other[rng.randint(0, len(other)) :]
        case _:
            data[place:place] = data[place : place + rng.randint(1, 64)]
