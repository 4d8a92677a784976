"""The directories that a command or a WAGI guest sees, as WASI preopens.

WASI opens directories, not files: the spec's small files are copied into directories
of their own, one for each directory that they are mounted in.
"""

import re
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Final

from node.runtime.base import Workload
from node.runtime.wasm.guest import Mount
from orca.errors import RuntimeFailedError
from orca.model.ids import split_service_id
from orca.model.spec import MountKind, MountSpec

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def prepare_mounts(workload: Workload, volumes_dir: Path, scratch: Path) -> tuple[Mount, ...]:
    """Make the directories for one start and say what goes where; blocks.

    `scratch` is the instance's own directory: tmpfs mounts and copies of files, deleted
    when it ends. Raises `RuntimeFailedError`.
    """
    try:
        mounts = [_prepare(workload, mount, volumes_dir, scratch) for mount in workload.spec.mounts]
        return (*mounts, *_prepare_files(workload, scratch))
    except OSError as error:
        raise RuntimeFailedError(f"the mounts of {workload.service} cannot be prepared: {error}") from error


def _prepare(workload: Workload, mount: MountSpec, volumes_dir: Path, scratch: Path) -> Mount:
    match mount.kind:
        case MountKind.VOLUME:
            if _NAME.fullmatch(mount.source) is None:
                raise RuntimeFailedError(
                    f"{mount.source!r} is not a volume name; use letters, digits, '_', '.' and '-'"
                )
            project, _ = split_service_id(workload.service)
            directory = volumes_dir / project / mount.source
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        case MountKind.BIND:
            directory = Path(mount.source)
            if not directory.is_dir():
                raise RuntimeFailedError(
                    f"{mount.source} is not a directory of this node; a Wasm module can mount only directories"
                )
        case MountKind.TMPFS:
            scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = Path(tempfile.mkdtemp(dir=scratch))
    return Mount(source=str(directory), target=mount.target, is_read_only=mount.read_only)


def _prepare_files(workload: Workload, scratch: Path) -> list[Mount]:
    taken = {mount.target.rstrip("/") for mount in workload.spec.mounts}
    directories: dict[str, Path] = {}
    for index, file in enumerate(workload.spec.files):
        target = PurePosixPath(file.target)
        parent = str(target.parent)
        if parent.rstrip("/") in taken:
            raise RuntimeFailedError(
                f"{file.target} lies in a mount; a Wasm module needs its files in a directory of their own"
            )
        if parent not in directories:
            scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            directories[parent] = Path(tempfile.mkdtemp(dir=scratch))
        copied = directories[parent] / target.name
        shutil.copyfile(Path(workload.files_dir) / str(index), copied)
        copied.chmod(file.mode & 0o700)
    return [Mount(source=str(path), target=target, is_read_only=True) for target, path in directories.items()]
