"""TLS over the client's connections, on trio."""

import ssl
from typing import Final

import trio

from orca.http import Connect

HANDSHAKE_S: Final = 5.0


def tls_connector(connect: Connect, context: ssl.SSLContext, host: str) -> Connect:
    """Connections of `connect` with TLS on them; a handshake that fails is an OSError that says why."""

    async def secured() -> trio.abc.Stream:
        plain = await connect()
        stream = trio.SSLStream(plain, context, server_hostname=host, https_compatible=True)
        try:
            with trio.fail_after(HANDSHAKE_S):
                await stream.do_handshake()
        except trio.TooSlowError as error:
            await trio.aclose_forcefully(plain)
            raise TimeoutError(f"no TLS handshake within {HANDSHAKE_S:g} s") from error
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(plain)
            cause = error.__cause__
            raise ConnectionError(
                f"TLS failed: {cause if isinstance(cause, ssl.SSLError) else 'it hung up'}"
            ) from error
        except BaseException:
            await trio.aclose_forcefully(plain)
            raise
        return stream

    return secured
