"""Jobs that ended here, on disk: a job that is done must not run again after a restart."""

from typing import Final

import msgspec

from node.store.environment import Environment
from node.store.views import Database, ReadView, WriteView
from orca.errors import StoreCorruptError
from orca.model.allocation import AllocationStatus
from orca.model.ids import AllocationId

_PREFIX: Final = b"ended/"
_AFTER: Final = b"ended0"
_decoder = msgspec.msgpack.Decoder(AllocationStatus)


class EndedJobs:
    """The last statuses of copies that completed or failed for good."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def load(self) -> dict[AllocationId, AllocationStatus]:
        """All that are kept. Raises StoreCorruptError rather than run a job twice."""

        def read(view: ReadView) -> dict[AllocationId, AllocationStatus]:
            return {
                AllocationId(key.removeprefix(_PREFIX).decode()): _decoder.decode(value)
                for key, value in view.scan(Database.LOCAL, _PREFIX, _AFTER)
            }

        try:
            return self._environment.read(read)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreCorruptError(f"the record of an ended job cannot be read: {error}") from error

    async def keep(self, status: AllocationStatus) -> None:
        """Remember that a copy has ended for good. Raises StoreFullError."""

        def write(view: WriteView) -> None:
            view.put(Database.LOCAL, _PREFIX + status.allocation.encode(), msgspec.msgpack.encode(status))

        await self._environment.write(write)

    async def forget(self, allocation: AllocationId) -> None:
        """The cluster has forgotten the copy."""

        def write(view: WriteView) -> None:
            view.delete(Database.LOCAL, _PREFIX + allocation.encode())

        await self._environment.write(write)
