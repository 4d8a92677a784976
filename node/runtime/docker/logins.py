"""Credentials for registries: those of `docker login` by the user that runs the node.

They are read afresh for each pull, because a login may come at any time, from where
Docker's own command has them: `config.json` in `$DOCKER_CONFIG` or `~/.docker`, and the
credential helpers that it names. They go to the engine with the request and nowhere else.
"""

import json
from typing import Any

import msgspec

from orca.errors import RuntimeFailedError


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the way into `registry`: `header` for the engine, empty without credentials.

    `problem` says why the file of credentials cannot be read. A public image needs none, so that
    is told only when the registry refuses.
    """

    registry: str
    path: str
    header: str = ""
    problem: str = ""

    def words(self) -> str:
        """What a person should know when the registry refuses."""
        if self.problem:
            return f"the node's credentials cannot be read: {self.path}: {self.problem}"
        if self.header:
            return f"the credentials for {self.registry} in {self.path} were refused"
        return f"the node has no credentials for {self.registry} in {self.path}"


def find_login(repository: str, client: Any) -> Login:
    """The way into the registry of `repository`. Blocks: a helper is a program."""
    from docker import auth
    from docker.errors import DockerException

    path = _config_path()
    registry, _ = auth.resolve_repository_name(repository)
    try:
        client.reload_config()
        header = auth.get_config_header(client, registry)
    except DockerException as error:
        return Login(registry=registry, path=path, problem=str(error))
    text = header.decode() if isinstance(header, bytes) else str(header or "")
    return Login(registry=registry, path=path, header=text, problem="" if text else _problem_of(path))


def all_logins(client: Any) -> str:
    """The header with the credentials for all registries, for the base images of a build. Blocks.

    Raises RuntimeFailedError when a credential helper fails.
    """
    from docker import auth
    from docker.errors import DockerException

    try:
        config: Any = auth.load_config()
        credentials = config.get_all_credentials()
    except DockerException as error:
        raise RuntimeFailedError(f"the credentials in {_config_path()} cannot be read: {error}") from error
    header = auth.encode_header(credentials) if credentials else b""
    return header.decode() if isinstance(header, bytes) else str(header)


def _config_path() -> str:
    from docker.utils import config

    return str(config.find_config_file() or "~/.docker/config.json")


def _problem_of(path: str) -> str:
    """Why the file at `path` is none of Docker's: the SDK takes such a file for an empty one."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            found = json.load(file)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return str(error)
    return "" if isinstance(found, dict) else "it is no JSON object"
