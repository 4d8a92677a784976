"""Secrets of the node in memory."""

from collections.abc import Mapping

from orca.errors import NotFoundError
from orca.model.ids import NodeId, ProjectName, RequestId, SecretId, StateRevision
from orca.model.secret_view import SecretView
from orca.model.trust import Author
from orca.model.units import WallMs
from orca.model.view import ServiceChange


class FakeSecrets:
    """Values in clear, as only a fake may keep them."""

    def __init__(self) -> None:
        self.values: dict[SecretId, bytes] = {}
        self.elsewhere: tuple[NodeId, ...] = ()

    def sealers(self) -> tuple[NodeId, ...]:
        return self.elsewhere

    def list(self, project: ProjectName | None = None) -> tuple[SecretView, ...]:
        return tuple(
            SecretView(
                id=one,
                version=StateRevision(1),
                created_at_ms=WallMs(1),
                updated_at_ms=WallMs(1),
                updated_by="ann",
            )
            for one in sorted(self.values)
            if project is None or one.startswith(f"{project}/")
        )

    async def set(
        self, values: Mapping[SecretId, bytes], *, request_id: RequestId, by: Author
    ) -> tuple[tuple[SecretId, ...], tuple[ServiceChange, ...]]:
        changed = tuple(sorted(one for one, value in values.items() if self.values.get(one) != value))
        self.values.update(values)
        return changed, ()

    async def remove(self, secrets: tuple[SecretId, ...], *, request_id: RequestId, by: Author) -> None:
        for one in secrets:
            if self.values.pop(one, None) is None:
                raise NotFoundError(f"there is no secret {one}")

    async def rotate(self, *, by: Author) -> tuple[int, int]:
        return 2, len(self.values)
