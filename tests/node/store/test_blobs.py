import hashlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from node.store.blobs import BlobStore
from orca.errors import InvalidRequestError, PayloadTooLargeError
from orca.model.ids import BlobDigest

pytestmark = pytest.mark.integration


def digest_of(content: bytes) -> BlobDigest:
    return BlobDigest(f"sha256:{hashlib.sha256(content).hexdigest()}")


async def stream(content: bytes, piece: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), piece):
        await trio.lowlevel.checkpoint()
        yield content[start : start + piece]


def files_below(path: Path) -> list[Path]:
    return [found for found in path.rglob("*") if found.is_file()]


@pytest.mark.parametrize("size", [0, 1, 1_500_000, 3 * 2**20])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_blob_comes_back_whole_and_private(tmp_path: Path, size: int, is_stream: bool) -> None:
    content = os.urandom(size)
    store = BlobStore(tmp_path / "blobs")
    digest = digest_of(content)
    assert not store.has(digest)
    path = await store.put(stream(content, 65_536) if is_stream else content, digest)
    assert path == store.path(digest)
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700
    again = BlobStore(tmp_path / "blobs")
    assert again.digests() == (digest,)
    assert again.has(digest)


async def test_content_of_another_digest_is_refused_and_not_kept(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    with pytest.raises(InvalidRequestError, match=digest_of(b"other")):
        await store.put(b"other", digest_of(b"content"))
    assert store.digests() == ()
    assert files_below(tmp_path) == []


async def test_content_that_is_too_large_is_refused_before_its_end(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", bytes_max=1000)
    taken = 0

    class Endless:
        def __aiter__(self) -> "Endless":
            return self

        async def __anext__(self) -> bytes:
            nonlocal taken
            await trio.lowlevel.checkpoint()
            taken += 1
            return b"x" * 100

    with pytest.raises(PayloadTooLargeError, match="is larger than"):
        await store.put(Endless(), digest_of(b"content"))
    assert taken == 11
    assert files_below(tmp_path) == []
    content = b"y" * 1000
    await store.put(content, digest_of(content))


@pytest.mark.parametrize("wrong", ["", "sha256:", "sha256:" + "A" * 64, "sha256:../../etc/passwd", "md5:" + "0" * 64])
async def test_what_is_no_digest_is_refused(tmp_path: Path, wrong: str) -> None:
    store = BlobStore(tmp_path / "blobs")
    with pytest.raises(InvalidRequestError, match="not a digest"):
        await store.put(b"x", BlobDigest(wrong))
    with pytest.raises(InvalidRequestError):
        store.has(BlobDigest(wrong))


async def test_cancelled_upload_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")

    class Silent:
        def __aiter__(self) -> "Silent":
            return self

        async def __anext__(self) -> bytes:
            await trio.sleep_forever()
            raise StopAsyncIteration

    with trio.move_on_after(0.01) as scope:
        await store.put(Silent(), digest_of(b"content"))
    assert scope.cancelled_caught
    assert files_below(tmp_path) == []


async def test_unfinished_uploads_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    incoming = tmp_path / "blobs" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "1").write_bytes(b"half")
    store = BlobStore(tmp_path / "blobs")
    assert files_below(tmp_path) == []
    await store.put(b"content", digest_of(b"content"))


async def test_simultaneous_uploads_of_one_blob_all_succeed(tmp_path: Path) -> None:
    content = os.urandom(2_000_000)
    store = BlobStore(tmp_path / "blobs")
    async with trio.open_nursery() as nursery:
        for piece in (1000, 70_000, 1_999_999, 2_000_000):
            nursery.start_soon(store.put, stream(content, piece), digest_of(content))
    assert [path.read_bytes() == content for path in files_below(tmp_path)] == [True]


async def test_unused_blobs_are_removed_when_they_are_old_enough(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    used, unused, fresh, again = (digest_of(name) for name in (b"used", b"unused", b"fresh", b"again"))
    for name in (b"used", b"unused", b"fresh", b"again"):
        await store.put(name, digest_of(name))
    for digest in (used, unused, again):
        os.utime(store.path(digest), (0, 0))
    await store.put(b"again", again)
    assert await store.remove_unused(frozenset({used})) == (unused,)
    assert set(store.digests()) == {used, fresh, again}
    assert set(await store.remove_unused(frozenset({used}), min_age_s=-1)) == {fresh, again}
