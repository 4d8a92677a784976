"""Service files on disk: the thin shell around `load`. Blocking; call it from a thread."""

import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from orca.errors import InvalidSpecError, NotFoundError, PayloadTooLargeError, Problem
from orca.model.ids import ProjectName
from orca.model.spec import ServiceSpec
from orca.specs.env_text import EnvTextError, parse_env
from orca.specs.load import SPEC_BYTES_MAX, LoadedFile, conclude, read_text
from orca.specs.reading import FileAccess, FileReading

MODULE_BYTES_MAX: Final = 256 * 2**20
_TREE: Final = "services"
_COMPOSE_NAMES: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
FILE_NAMES: Final = ("service.toml", *_COMPOSE_NAMES)


def load_path(
    path: Path,
    *,
    project: ProjectName | None = None,
    environment: Mapping[str, str] | None = None,
    profiles: frozenset[str] = frozenset(),
    existing: Iterable[ServiceSpec] = (),
) -> LoadedFile:
    """The services of a file or a directory.

    A directory holds `service.toml`, a Compose file, or a tree of
    `services/<project>/service.toml`; the first of these that is there is taken, and a
    tree as a whole. The project of a file in such a tree is its directory; that of a
    Compose file without `name:` is its directory's name too. A `.env` beside a Compose
    file fills its variables where `environment` does not.

    Raises NotFoundError, PayloadTooLargeError (1 MiB a spec file) and InvalidSpecError.
    """
    files = _find(path)
    readings = [
        _read(file, project=project, environment=environment or {}, profiles=profiles, root=path) for file in files
    ]
    return conclude(readings, existing)


def _find(path: Path) -> list[Path]:
    if not path.exists():
        raise NotFoundError(f"{path} does not exist", hint="name a service.toml, a Compose file or a directory")
    if not path.is_dir():
        return [path]
    for name in FILE_NAMES:
        if (path / name).is_file():
            return [path / name]
    root = path if path.name == _TREE else path / _TREE
    found = sorted(root.glob("*/service.toml"))
    if not found:
        allowed = ", ".join((*FILE_NAMES, f"{_TREE}/<project>/service.toml"))
        raise NotFoundError(f"{path} has no service file", hint=f"it may hold one of {allowed}")
    return found


def _read(
    file: Path, *, project: ProjectName | None, environment: Mapping[str, str], profiles: frozenset[str], root: Path
) -> FileReading:
    directory = file.resolve().parent
    shown_name = str(file.relative_to(root)) if root.is_dir() else str(file)
    raw = read_bounded(file, SPEC_BYTES_MAX, "a service file")
    is_compose = file.suffix.lower() in {".yaml", ".yml"}
    variables = {**_dot_env(directory / ".env", environment), **environment} if is_compose else dict(environment)
    if project is None and (is_compose or directory.parent.name == _TREE):
        project = _project_of(directory.name)
    return read_text(
        raw,
        filename=shown_name,
        project=project,
        files=FileAccess(_reader_in(directory)),
        environment=variables,
        profiles=profiles,
        directory=str(directory),
    )


def _reader_in(directory: Path) -> Callable[[str], bytes]:
    """Reads files by their path relative to `directory`."""

    def read_file(path: str) -> bytes:
        return read_bounded(directory / path, MODULE_BYTES_MAX, "a file of a service")

    return read_file


def read_bounded(file: Path, limit: int, what: str) -> bytes:
    """The content of the regular file `file`; raises OSError, and PayloadTooLargeError above `limit` bytes."""
    with file.open("rb") as stream:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise OSError(f"{file} is no regular file")
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise PayloadTooLargeError(f"{file} is too large: {what} may have at most {limit} bytes")
    return content


def _dot_env(file: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a `.env` file; none when there is no such file."""
    if not file.is_file():
        return {}
    try:
        values = parse_env(read_bounded(file, SPEC_BYTES_MAX, "an environment file").decode("utf-8-sig"), environment)
    except (EnvTextError, UnicodeDecodeError) as problem:
        line = problem.line if isinstance(problem, EnvTextError) else 0
        found = Problem(message=str(problem), file=str(file), line=line, allowed="NAME=value lines in UTF-8")
        raise InvalidSpecError(f"{found}; nothing was deployed", problems=(found,)) from problem
    return {name: value for name, value in values.items() if value is not None}


def _project_of(name: str) -> ProjectName | None:
    """A directory's name as a project: lower-case letters, digits and `-`."""
    cleaned = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63].rstrip("-")
    return ProjectName(cleaned) if cleaned else None
