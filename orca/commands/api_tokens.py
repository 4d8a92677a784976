"""`orca token create --api`, and what lists and revokes such tokens."""

import base64
import secrets

import msgspec

from orca.client import NodeClient
from orca.errors import AmbiguousNameError, NotFoundError
from orca.model.access import ApiTokenView, CreateApiTokenRequest
from orca.model.api_token import SECRET_BYTES, make_api_token
from orca.model.ids import ProjectName, TokenId
from orca.model.trust import ApiRole

_ID_BYTES = 5


class NewApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was just made. `token` is shown this once: nobody has it but who asked."""

    token: str
    view: ApiTokenView


async def create_api_token(
    client: NodeClient,
    name: str,
    role: ApiRole,
    *,
    projects: tuple[ProjectName, ...] = (),
    ttl_s: int | None = None,
) -> NewApiToken:
    """A new token; it is made here, and the cluster learns the hash of its secret.

    Raises ConflictError for a name that is taken, InvalidRequestError for projects of an admin.
    """
    made = make_api_token(TokenId(_fresh_id()), secrets.token_bytes(SECRET_BYTES))
    request = CreateApiTokenRequest(
        id=made.id, name=name, secret_hash=made.secret_hash.hex(), role=role, projects=projects, ttl_s=ttl_s
    )
    return NewApiToken(token=made.text, view=await client.create_api_token(request))


def find_api_token(text: str, tokens: tuple[ApiTokenView, ...]) -> ApiTokenView:
    """The token that `text` means. Raises NotFoundError, and AmbiguousNameError for a name that is another's id."""
    whole = text.split("-")
    wanted = whole[2] if text.startswith("orca-api-") and len(whole) == 4 else text
    found = [one for one in tokens if wanted in {one.id, one.name}]
    if len(found) > 1:
        raise AmbiguousNameError(f"{wanted!r} is the name of one API token and the id of another; write its id")
    if not found:
        raise NotFoundError(f"there is no API token {wanted!r}", hint="see orca token ls")
    return found[0]


def _fresh_id() -> str:
    """Eight characters of base 32 (40 random bits): a thousand tokens never meet."""
    return base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()
