"""The text of a service file to finished specs, or one error with every problem."""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from orca.errors import PayloadTooLargeError, Problem
from orca.model.build import BuildSpec
from orca.model.ids import BlobDigest, ProjectName, SecretId
from orca.model.secrets import secret_id
from orca.model.spec import ServiceSpec
from orca.specs.compose import read_compose_file
from orca.specs.document import Node
from orca.specs.findings import Fault, Findings, in_order, to_error
from orca.specs.interpolation import Interpolator
from orca.specs.reading import Context, FileAccess, FileReading, ReadService
from orca.specs.rules import find_faults
from orca.specs.service_file import read_service_file
from orca.specs.toml_text import parse_toml
from orca.specs.yaml_text import parse_yaml

SPEC_BYTES_MAX: Final = 2**20


class LoadedFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a service file (or a directory of them) asks for.

    `blobs` is the content of Wasm modules and of `files` by digest; it must reach the node
    before the specs. `secrets` are values that a Compose file gives, to be sealed before the
    specs are put. `builds` are images to make first. `ignored` are harmless things
    that have no effect, each with its line. `kind` is `toml` or `compose`.
    """

    specs: tuple[ServiceSpec, ...]
    blobs: dict[BlobDigest, bytes] = {}
    secrets: dict[SecretId, bytes] = {}
    builds: tuple[BuildSpec, ...] = ()
    ignored: tuple[Problem, ...] = ()
    kind: str = "toml"


def load_text(  # noqa: PLR0913 - every argument is a source of truth of its own
    text: bytes | str,
    *,
    filename: str,
    project: ProjectName | None = None,
    read_file: Callable[[str], bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    profiles: frozenset[str] = frozenset(),
    directory: str | None = None,
    existing: Iterable[ServiceSpec] = (),
) -> LoadedFile:
    """The services of one file, TOML or Compose by its extension or else its content.

    `project` is used where the file names none. `read_file` gives files by their path
    relative to the spec file and may raise OSError; None refuses whatever needs it.
    `environment` fills the variables of a Compose file, `profiles` choose its services,
    `directory` (absolute) makes relative paths of the node absolute. `existing` are deployed
    services that this file may depend on and must not clash with.

    Raises InvalidSpecError with every problem, PayloadTooLargeError above 1 MiB.
    """
    reading = read_text(
        text,
        filename=filename,
        project=project,
        files=FileAccess(read_file),
        environment=environment or {},
        profiles=profiles,
        directory=directory,
    )
    return conclude([reading], existing)


def read_text(
    text: bytes | str,
    *,
    filename: str,
    project: ProjectName | None,
    files: FileAccess,
    environment: Mapping[str, str],
    profiles: frozenset[str],
    directory: str | None,
) -> FileReading:
    """One file as it reads, before the rules; the first half of `load_text`."""
    findings = Findings(filename)
    decoded = _decode(text, filename, findings)
    kind = "toml"
    root: Node | None = None
    interpolator = Interpolator(environment)
    if decoded is not None:
        kind = _kind_of(decoded, filename)
        root = parse_toml(decoded, findings) if kind == "toml" else parse_yaml(decoded, findings, interpolator)
        if root is None and not findings.problems:
            findings.refuse(1, "", "the file is empty", "[[service]] tables, or a Compose file")
    context = Context(
        findings=findings,
        files=files,
        project=project,
        environment=environment,
        profiles=profiles,
        directory=directory,
    )
    services: list[ReadService] = []
    if root is not None:
        services = read_service_file(root, context) if kind == "toml" else read_compose_file(root, context)
    return FileReading(findings=findings, kind=kind, files=files, services=services)


def conclude(readings: list[FileReading], existing: Iterable[ServiceSpec] = ()) -> LoadedFile:
    """Apply the rules to everything that was read, together; the second half of `load_text`.

    Raises InvalidSpecError.
    """
    placed = [(reading.findings, service) for reading in readings for service in reading.services]
    places = [_Place(findings, service) for findings, service in placed]
    for found in find_faults([service.spec for _, service in placed], existing):
        places[found.index].add(found.fault)
    if any(reading.findings.problems for reading in readings):
        raise to_error(reading.findings for reading in readings)
    blobs: dict[BlobDigest, bytes] = {}
    secrets: dict[SecretId, bytes] = {}
    for reading in readings:
        blobs.update(reading.files.blobs)
        projects = sorted({service.spec.project for service in reading.services})
        secrets.update(
            (secret_id(project, name), value) for project in projects for name, value in reading.files.secrets.items()
        )
    return LoadedFile(
        specs=tuple(service.spec for _, service in placed),
        blobs=blobs,
        secrets=secrets,
        builds=tuple(service.build for _, service in placed if service.build is not None),
        ignored=in_order(problem for reading in readings for problem in reading.findings.ignored),
        kind=readings[0].kind if readings else "toml",
    )


class _Place:
    """Where faults of one service are reported.

    A value that could not be read was replaced by a default, so a fault on the line of a
    problem that is known already, or about ports when those could not be read, would only
    be its echo and is left out.
    """

    def __init__(self, findings: Findings, service: ReadService) -> None:
        self._findings = findings
        self._service = service
        prefix = service.item.key + "."
        mine = [problem for problem in findings.problems if problem.key.startswith(prefix)]
        self._known = {problem.line for problem in mine} | (
            {service.item.line} if any(problem.key == service.item.key for problem in findings.problems) else set()
        )
        self._has_broken_ports = any(problem.key[len(prefix) :].startswith(("port", "expose")) for problem in mine)

    def add(self, fault: Fault) -> None:
        """Record `fault` where the file has what it is about."""
        origin = self._service.origin(fault.path)
        is_echo = origin.line in self._known or (self._has_broken_ports and fault.is_about_ports)
        if not is_echo:
            self._findings.refuse(origin.line, origin.key, fault.message, fault.allowed)


def _decode(text: bytes | str, filename: str, findings: Findings) -> str | None:
    if len(text) > SPEC_BYTES_MAX:
        raise PayloadTooLargeError(
            f"{filename} has {len(text)} bytes; a service file may have at most {SPEC_BYTES_MAX} (1 MiB)",
            problems=(Problem(message="the file is too large", file=filename, allowed="at most 1 MiB"),),
        )
    try:
        raw = text if isinstance(text, bytes) else text.encode()
    except UnicodeEncodeError as problem:
        line = text.count("\n", 0, problem.start) + 1 if isinstance(text, str) else 1
        findings.refuse(line, "", "half of a surrogate pair is no character", "Unicode text")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        findings.refuse(line, "", f"byte 0x{raw[problem.start]:02x} is not UTF-8", "text in UTF-8")
        return None


def _kind_of(text: str, filename: str) -> str:
    """`toml` or `compose`, by the extension; without a known one by the first words."""
    extension = posixpath.splitext(filename.lower())[1]
    if extension == ".toml":
        return "toml"
    if extension in {".yaml", ".yml", ".json"}:
        return "compose"
    for line in text.splitlines():
        words = line.strip()
        if words and not words.startswith("#"):
            is_toml = words.startswith("[") or "=" in words.split(":", 1)[0]
            return "toml" if is_toml else "compose"
    return "toml"
