"""What of a directory goes to the builder."""

import io
import tarfile
from pathlib import Path

import pytest

from orca.commands.build_context import context_chunks
from orca.commands.ignore_rules import IgnoreRules
from orca.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("rules", "path", "is_out"),
    [
        ("*.log", "a.log", True),
        ("*.log", "deep/a.log", False),
        ("**/*.log", "deep/er/a.log", True),
        ("**/*.log", "a.log", True),
        ("node_modules", "node_modules/x/y.js", True),
        ("node_modules/", "node_modules/x", True),
        ("/build", "build/out", True),
        ("*\n!keep", "keep", False),
        ("*\n!keep", "drop", True),
        ("!keep\n*", "keep", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("# note\n\n", "# note", False),
        ("docs/**", "docs/a/b", True),
        ("a.c", "abc", False),
        ("\\*", "x", False),
    ],
)
def test_ignore_rules_hold_as_the_builder_documents_them(rules: str, path: str, is_out: bool) -> None:
    assert IgnoreRules(rules).leaves_out(path) is is_out


async def tar_of(root: Path, dockerfile: str = "Dockerfile") -> tarfile.TarFile:
    content = b"".join([chunk async for chunk in context_chunks(root, dockerfile)])
    return tarfile.open(fileobj=io.BytesIO(content))


async def test_a_context_arrives_as_it_lies_there(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "run.sh").write_bytes(b"#!" + b"x" * 700_000)
    (tmp_path / "src" / "run.sh").chmod(0o755)
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("src/run.sh")
    tar = await tar_of(tmp_path)
    assert tar.getnames() == ["Dockerfile", "empty", "link", "src", "src/run.sh"]
    assert tar.getmember("src/run.sh").mode == 0o755
    assert tar.getmember("link").linkname == "src/run.sh"
    member = tar.extractfile("src/run.sh")
    assert member is not None
    assert member.read() == (tmp_path / "src" / "run.sh").read_bytes()
    assert tar.getmember("src/run.sh").uid == 0


async def test_what_is_ignored_stays_here_but_the_dockerfile_always_goes(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("*\n!app\napp/secret\n")
    (tmp_path / "Dockerfile").touch()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main").touch()
    (tmp_path / "app" / "secret").touch()
    (tmp_path / "other").touch()
    assert (await tar_of(tmp_path)).getnames() == ["Dockerfile", "app", "app/main"]


async def test_a_dockerfile_below_an_ignored_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("deploy\n")
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "Dockerfile").touch()
    (tmp_path / "deploy" / "notes").touch()
    assert (await tar_of(tmp_path, "deploy/Dockerfile")).getnames() == [".dockerignore", "deploy", "deploy/Dockerfile"]


async def test_a_context_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="Dockerfile does not exist"):
        await tar_of(tmp_path)
    (tmp_path / "Dockerfile").touch()
    (tmp_path / ".dockerignore").write_text("[ab\n")
    with pytest.raises(InvalidRequestError, match="must end with"):
        await tar_of(tmp_path)
    with pytest.raises(InvalidRequestError, match="no directory"):
        await tar_of(tmp_path / "nowhere")
