"""How an API token is written: `orca-api-<id>-<secret>`. Pure.

The id is public and says which token it is; the secret is 32 random bytes. Whoever makes a token
gives the cluster its id and the SHA-256 of its secret, so that no node ever has to keep, or
even see, the secret before it is used.
"""

import base64
import hashlib
import re
from typing import Final, NamedTuple

from orca.model.ids import TokenId

PREFIX: Final = "orca-api-"
SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(r"orca-api-(?P<id>[a-z2-7]{4,32})-(?P<secret>[a-z2-7]{52})")


class ApiToken(NamedTuple):
    """A token in two parts; `secret` is as it is written."""

    id: TokenId
    secret: str

    @property
    def text(self) -> str:
        """As it is given to people: show it once and keep it nowhere."""
        return f"{PREFIX}{self.id}-{self.secret}"

    @property
    def secret_hash(self) -> bytes:
        """What the cluster knows of the secret. 256 random bits need no salt and no slow hash."""
        return hashlib.sha256(self.secret.encode()).digest()


def make_api_token(name: TokenId, random_bytes: bytes) -> ApiToken:
    """The token `name` with a secret of `SECRET_BYTES` random bytes."""
    assert len(random_bytes) == SECRET_BYTES, f"a secret has {SECRET_BYTES} bytes, not {len(random_bytes)}"
    return ApiToken(name, base64.b32encode(random_bytes).decode().rstrip("=").lower())


def parse_api_token(text: str) -> ApiToken | None:
    """The parts of `text`, None when it is no API token."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else ApiToken(TokenId(found["id"]), found["secret"])
