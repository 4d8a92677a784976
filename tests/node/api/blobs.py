"""Contents that were put, in memory."""

import hashlib
from collections.abc import AsyncIterator

from orca.errors import InvalidRequestError
from orca.model.ids import BlobDigest


class FakeMetrics:
    """Has counted one thing."""

    async def scrape(self) -> tuple[bytes, str]:
        return b"orca_up 1.0\n", "text/plain; version=0.0.4; charset=utf-8"


class FakeBlobs:
    """Keeps what it was given under its digest, and nothing else."""

    def __init__(self) -> None:
        self.blobs: dict[BlobDigest, bytes] = {}

    async def put_blob(self, digest: BlobDigest, chunks: AsyncIterator[bytes]) -> bool:
        content = b"".join([chunk async for chunk in chunks])
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise InvalidRequestError(f"the content is not {digest}")
        is_new = digest not in self.blobs
        self.blobs[digest] = content
        return is_new

    def has_blob(self, digest: BlobDigest) -> bool:
        return digest in self.blobs
