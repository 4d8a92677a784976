"""How a spec names secrets, and which secret a name means.

A value of `env` may hold `${secrets.NAME}`, and a file may be one (`FileSpec.secret`). `NAME` means the
secret of the service's own project, or else the one of the whole cluster (whose project is empty).
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from orca.model.ids import ProjectName, SecretId
from orca.model.spec import ServiceSpec

SECRET_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
SECRET_BYTES_MAX: Final = 128 * 1024
_REFERENCE: Final = re.compile(r"\$\{secrets\.([^}]*)\}")


def secret_id(project: ProjectName | None, name: str) -> SecretId:
    """The id of secret `name` of `project`; None: of the whole cluster."""
    return SecretId(f"{project or ''}/{name}")


def split_secret_id(secret: SecretId) -> tuple[ProjectName | None, str]:
    """The project (None: the whole cluster) and the name that `secret` was made of."""
    project, _, name = secret.partition("/")
    return (ProjectName(project) if project else None), name


def named_in(text: str) -> tuple[str, ...]:
    """The names in the references of `text`, in order, as they are written."""
    return tuple(_REFERENCE.findall(text))


def secrets_of(spec: ServiceSpec) -> tuple[str, ...]:
    """Every secret that `spec` names, once each, in order."""
    names = [name for value in spec.env.values() for name in named_in(value)]
    names += [file.secret for file in spec.files if file.secret is not None]
    return tuple(dict.fromkeys(names))


def find_secret(project: ProjectName, name: str, exists: Callable[[SecretId], bool]) -> SecretId | None:
    """Which secret `name` means in `project`, None when there is none."""
    for found in (secret_id(project, name), secret_id(None, name)):
        if exists(found):
            return found
    return None


def fill_references(text: str, values: Mapping[str, str]) -> str:
    """`text` with each reference replaced by its value; what a value contains is not read again."""
    return _REFERENCE.sub(lambda found: values[found[1]], text)
