"""How a client proves who it is, and how it knows the node: a token, and the CA that it trusts. Loads no event loop."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from orca.client.discover import NodeAddress
from orca.errors import InvalidRequestError

if TYPE_CHECKING:
    import ssl

    from orca.http.connect import Connect
    from orca.http.messages import Headers

TOKEN_BYTES_MAX: Final = 1024


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a client shows and whom it believes.

    `token` is an API token, empty for none. `ca_file` is a PEM file with the CA of the cluster, for https:
    the node must have a certificate of that CA, whatever name it is called by. Without
    one, https believes whom this computer believes, by name.
    """

    token: str = ""
    ca_file: str = ""

    @property
    def headers(self) -> "Headers":
        """What goes with each request."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def tls(self) -> "ssl.SSLContext":
        """How to speak TLS; raises InvalidRequestError for a CA file that cannot be used."""
        import ssl  # only where it is spoken: it costs as much as the rest of a small command

        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise InvalidRequestError(f"the CA file {self.ca_file} cannot be used: {error}") from error
        if self.ca_file:
            # A node's certificate says which node of which cluster it is, not by which name it is reached;
            # nobody else has one of this CA.
            context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def connector(self, address: NodeAddress) -> "Connect":
        """Opens connections to `address`, on trio."""
        if not address.is_tls:
            return address.connector()
        from orca.client.secured import tls_connector

        return tls_connector(address.connector(), self.tls(), address.host)


NO_CREDENTIALS: Final = Credentials()


def find_credentials(environ: Mapping[str, str], token: str | None = None, ca_file: str | None = None) -> Credentials:
    """What was given, else $ORCA_TOKEN, else the first line of $ORCA_TOKEN_FILE; the CA file from $ORCA_CA.

    A `token` that begins with `@` names a file: what stands in a command line is seen by everybody
    on this computer. Raises InvalidRequestError for a file that cannot be read.
    """
    text = token or environ.get("ORCA_TOKEN", "")
    if text.startswith("@"):
        text = _read_token(text[1:])
    elif not text and environ.get("ORCA_TOKEN_FILE"):
        text = _read_token(environ["ORCA_TOKEN_FILE"])
    if not text.isascii() or text.split() not in ([], [text]):
        raise InvalidRequestError("the API token has spaces or strange characters in it; it is orca-api-…")
    return Credentials(token=text, ca_file=ca_file or environ.get("ORCA_CA", ""))


def _read_token(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(TOKEN_BYTES_MAX).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"the token file {path} cannot be read: {error}") from error
    return content.partition("\n")[0].strip()
