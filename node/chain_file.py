"""A private key with its certificates, given to OpenSSL without a disk between."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def load_chain(context: ssl.SSLContext, chain: bytes) -> None:
    """Let `context` show `chain` (PEM: the key, the leaf, then whoever signed). Raises ssl.SSLError, ValueError."""
    with chain_file(chain) as path:
        context.load_cert_chain(path)


@contextmanager
def chain_file(content: bytes) -> Iterator[str]:
    """A path with `content` for as long as the context lasts: in memory where the system can, so on no disk."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("orca-chain", os.MFD_CLOEXEC)
        try:
            os.write(fd, content)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
        return
    with tempfile.NamedTemporaryFile(prefix="orca-chain-") as file:  # made with mode 0600
        file.write(content)
        file.flush()
        yield file.name
