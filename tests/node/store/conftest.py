from collections.abc import Iterator
from pathlib import Path

import pytest

from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.log_store import FileLogStore


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def environment(directory: DataDirectory) -> Iterator[Environment]:
    """A store with a map of 1 MiB."""
    with Environment.open(directory, map_bytes_max=2**20) as opened:
        yield opened


@pytest.fixture
def store(environment: Environment) -> Iterator[FileLogStore]:
    """The log beside it."""
    with FileLogStore.open(environment) as opened:
        yield opened
