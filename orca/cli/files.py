"""The service files that `deploy` and `plan` are given. Blocking; call it from a thread."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from orca.commands.deploy import DeployInput, join_inputs
from orca.errors import InvalidRequestError, InvalidSpecError, Problem
from orca.model.ids import ProjectName
from orca.model.spec import ServiceSpec
from orca.specs.env_text import EnvTextError, parse_env
from orca.specs.files import load_path, read_bounded
from orca.specs.load import LoadedFile, load_text

STDIN_BYTES_MAX: Final = 2**20
FILE_BYTES_MAX: Final = 256 * 2**20


class FileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to read them: `project` where a file names none, `profiles` and variables for Compose files."""

    project: ProjectName | None = None
    profiles: frozenset[str] = frozenset()
    environment: dict[str, str] = {}


def read_environment(env_files: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the process over those of `env_files`, of which a later one wins.

    Raises InvalidRequestError naming file and line.
    """
    values: dict[str, str] = {}
    for name in env_files:
        try:
            text = read_bounded(Path(name), STDIN_BYTES_MAX, "an environment file").decode("utf-8-sig")
            found = parse_env(text, {**environ, **values})
            values.update({key: environ.get(key, "") if value is None else value for key, value in found.items()})
        except EnvTextError as error:
            raise InvalidRequestError(f"{name}:{error.line}: {error}") from error
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"{name} is not UTF-8") from error
        except OSError as error:
            raise InvalidRequestError(f"{name} cannot be read: {error.strerror or error}") from error
    return {**values, **environ}


def load_files(paths: Sequence[str], options: FileOptions, existing: Sequence[ServiceSpec] = ()) -> DeployInput:
    """Everything that `paths` ask for, as one deploy; `-` is standard input.

    Files may depend on each other's services and on `existing` ones. Raises
    InvalidSpecError with the problems of all files, NotFoundError for a path.
    """
    stdin = _read_stdin() if "-" in paths else b""
    loaded: dict[str, LoadedFile] = {}
    problems: tuple[Problem, ...] = ()
    for _ in range(2):  # a file that needs a service of another one is understood in the second round
        problems = ()
        known = {spec.id: spec for spec in existing}
        known.update({spec.id: spec for one in loaded.values() for spec in one.specs})
        for path in dict.fromkeys(paths):
            if path in loaded:
                continue
            try:
                loaded[path] = _load(path, stdin, options, tuple(known.values()))
            except InvalidSpecError as error:
                problems += error.problems or (Problem(message=error.message, file=path),)
        if not problems:
            break
    if problems:
        count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
        raise InvalidSpecError(f"{count} in the service files; nothing was changed", problems=problems)
    return join_inputs(
        [
            DeployInput(
                specs=one.specs,
                blobs=one.blobs,
                builds=one.builds,
                warnings=tuple(str(problem) for problem in one.ignored),
            )
            for one in loaded.values()
        ]
    )


def _load(path: str, stdin: bytes, options: FileOptions, existing: tuple[ServiceSpec, ...]) -> LoadedFile:
    if path != "-":
        return load_path(
            Path(path),
            project=options.project,
            environment=options.environment,
            profiles=options.profiles,
            existing=existing,
        )
    here = Path.cwd()
    return load_text(
        stdin,
        filename="standard input",
        project=options.project,
        read_file=lambda name: read_bounded(here / name, FILE_BYTES_MAX, "a file of a service"),
        environment=options.environment,
        profiles=options.profiles,
        directory=str(here),
        existing=existing,
    )


def _read_stdin() -> bytes:
    if os.isatty(sys.stdin.fileno()):
        sys.stderr.write("reading a service file from the terminal; end it with Ctrl-D\n")
    return sys.stdin.buffer.read(STDIN_BYTES_MAX + 1)
