"""What a join token looks like: `orca-<fingerprint of the CA>-<id>-<secret>`. Pure."""

import base64
import hashlib
import re
from typing import Final

import msgspec

from orca.model.ids import TokenId

FINGERPRINT_LENGTH: Final = 26
"""The first 16 bytes of the SHA-256 of the CA's certificate, in lower-case base 32 without padding."""
SECRET_LENGTH: Final = 26
"""128 bits in base 32."""
TOKEN_ENV: Final = "ORCA_JOIN_TOKEN"  # noqa: S105 - the name of a variable
_PATTERN: Final = re.compile(r"orca-([a-z2-7]{26})-([a-z2-7]{8,12})-([a-z2-7]{26})")


class JoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """A join token in its parts. Only who joins and who made it ever have the secret."""

    fingerprint: str
    id: TokenId
    secret: str

    def text(self) -> str:
        """The token as people carry it."""
        return f"orca-{self.fingerprint}-{self.id}-{self.secret}"

    def __repr__(self) -> str:
        return f"JoinToken(id={self.id})"

    @property
    def secret_hash(self) -> bytes:
        """What the cluster knows of it."""
        return hash_secret(self.secret)


class JoinOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `orca join` was told: whom to ask (HOST or HOST:PORT) and the text of a token."""

    peers: tuple[str, ...]
    token: str

    def __repr__(self) -> str:
        return f"JoinOptions(peers={self.peers})"


def hash_secret(secret: str) -> bytes:
    """The SHA-256 of a token's secret; it has enough randomness to need no salt."""
    return hashlib.sha256(secret.encode()).digest()


def short_fingerprint(fingerprint: str) -> str:
    """How a token names the CA whose certificate has the SHA-256 `fingerprint` (hex)."""
    return encode_random(bytes.fromhex(fingerprint)[:16])


def encode_random(content: bytes) -> str:
    """`content` in lower-case base 32 without padding."""
    return base64.b32encode(content).decode().rstrip("=").lower()


def parse_join_token(text: str) -> JoinToken:
    """The parts of `text`. Raises ValueError, which never repeats it: it may be the better part of a secret."""
    found = _PATTERN.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"this is no join token ({len(text.strip())} characters); one is orca-CA-ID-SECRET in lower-case letters "
            "and digits, as `orca token create` prints it on a node of the cluster"
        )
    return JoinToken(fingerprint=found[1], id=TokenId(found[2]), secret=found[3])
