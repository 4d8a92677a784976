"""What a format reader is given and what it gives back."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from orca.errors import OrcaError, Problem
from orca.model.build import BuildSpec
from orca.model.ids import BlobDigest, ProjectName, ServiceId
from orca.model.spec import ServiceSpec
from orca.specs.findings import Findings
from orca.specs.section import Item

ReadFile: TypeAlias = Callable[[str], bytes]
"""Gives the content of a file by its path relative to the spec file; raises OSError or OrcaError."""

SERVICES_MAX: Final = 1_000


class FileAccess:
    """Reads the files that a spec names and keeps their content under its digest.

    `secrets` are values that the file gives, by name; they are kept apart and never stored as contents.
    """

    def __init__(self, read_file: ReadFile | None) -> None:
        self.blobs: dict[BlobDigest, bytes] = {}
        self.secrets: dict[str, bytes] = {}
        self._read_file = read_file
        self._contents: dict[str, bytes] = {}

    def keep(self, content: bytes) -> BlobDigest:
        """Remember `content`; gives its digest."""
        digest = BlobDigest("sha256:" + hashlib.sha256(content).hexdigest())
        self.blobs[digest] = content
        return digest

    def load(self, item: Item, path: str, *, is_required: bool = True) -> bytes | None:
        """The content of the file at `path`, named by `item`; None after recording why not.

        A file that is not required may be absent without a problem.
        """
        if self._read_file is None:
            item.refuse(
                f"file {path!r} cannot be read: a spec that comes over the API has no files beside it",
                "content inside the spec, or `orca deploy` where the file is",
            )
            return None
        if path in self._contents:
            return self._contents[path]
        try:
            content = self._read_file(path)
        except FileNotFoundError:
            if is_required:
                item.refuse(f"file {path!r} does not exist", "a path relative to this file")
            return None
        except (OSError, ValueError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
            item.refuse(f"file {path!r} cannot be read: {reason}", "a file that can be read")
            return None
        except OrcaError as problem:
            item.refuse(problem.message)
            return None
        self._contents[path] = content
        return content


_FIELDS: Final = {
    "cpu": "cpu_milli",
    "memory": "memory_bytes",
    "pids": "pids_max",
    "min_healthy_time": "min_healthy_time_s",
    "deadline": "deadline_s",
    "auto_promote": "auto_promote_s",
    "keep_old": "keep_old_s",
    "interval": "interval_s",
    "timeout": "timeout_s",
    "initial_delay": "initial_delay_s",
    "max_size": "file_bytes_max",
    "files": "files_max",
}
"""Fields of a spec whose name carries a unit that the file's key does not have."""


def note_origins(origins: dict[str, Item], field: str, item: Item) -> None:
    """Remember `item`, and the entries below it, as where `field` of a spec came from."""
    origins[field] = item
    if item.is_table:
        for name, entry in item.entries():
            origins[f"{field}.{_FIELDS.get(name, name)}"] = entry
    elif item.is_list:
        for index, entry in enumerate(item.items()):
            origins[f"{field}[{index}]"] = entry


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a reader needs besides the document.

    `directory` is the absolute directory of the file, None when it has none (API).
    """

    findings: Findings
    files: FileAccess
    project: ProjectName | None
    environment: Mapping[str, str]
    profiles: frozenset[str]
    directory: str | None = None


class ReadService(msgspec.Struct, frozen=True, kw_only=True):
    """One service as a reader understood it.

    Where something could not be read, the reader recorded a problem and `spec` has a
    default in its place: good enough to look for further problems, never to be run.
    `origins` says which item of the file a field of the spec came from (`routes[0]`),
    `item` is the service itself.
    """

    id: ServiceId
    item: Item
    spec: ServiceSpec
    origins: Mapping[str, Item]
    build: BuildSpec | None = None

    def origin(self, path: str) -> Item:
        """The item of the file that `path` of the spec came from, or the nearest around it."""
        while path:
            if path in self.origins:
                return self.origins[path]
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        return self.item


class FileReading(msgspec.Struct, kw_only=True):
    """One file as it was read, before the rules are applied."""

    findings: Findings
    kind: str
    files: FileAccess
    services: list[ReadService] = []

    @property
    def ignored(self) -> tuple[Problem, ...]:
        """What had no effect, by line."""
        return tuple(sorted(self.findings.ignored, key=lambda problem: problem.line))
