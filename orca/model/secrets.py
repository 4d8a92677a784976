"""How a spec names secrets, and which secret a name means.

A value of `env` may hold `${secrets.NAME}`, and a file may be one (`FileSpec.secret`); the ingress may have a
certificate from two of them (`TlsSpec`). `NAME` means the secret of the service's own project, or else the one of the
whole cluster (whose project is empty).
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from orca.model.ids import ProjectName, SecretId, display_name
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
    """Every secret that the copies of `spec` get, once each, in order."""
    names = [name for value in spec.env.values() for name in named_in(value)]
    names += [file.secret for file in spec.files if file.secret is not None]
    return tuple(dict.fromkeys(names))


def ingress_secrets_of(spec: ServiceSpec) -> tuple[str, ...]:
    """Every secret that the ingress needs for `spec`, which its copies do not get."""
    tls = spec.ingress.tls
    return () if tls is None else tuple(dict.fromkeys((tls.certificate, tls.key)))


def find_secret(project: ProjectName, name: str, exists: Callable[[SecretId], bool]) -> SecretId | None:
    """Which secret `name` means in `project`, None when there is none."""
    for found in (secret_id(project, name), secret_id(None, name)):
        if exists(found):
            return found
    return None


def fill_environment(spec: ServiceSpec, secrets: Mapping[str, bytes]) -> dict[str, str]:
    """`env` of `spec` with each reference replaced by its secret's value; what a value contains is not read again.

    `secrets` has every name that `spec` uses; those that stand in `env` are UTF-8.
    """
    if not secrets:
        return dict(spec.env)
    return {name: _REFERENCE.sub(lambda found: secrets[found[1]].decode(), value) for name, value in spec.env.items()}


def missing_secret(spec: ServiceSpec, name: str) -> str:
    """What to say when `spec` names a secret that does not exist."""
    return (
        f"{display_name(spec.id)} names the secret {name}, and neither project {spec.project} nor the cluster has one; "
        f"set it with `orca secrets set {spec.project}/{name}`"
    )
