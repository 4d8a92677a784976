"""One life of a process: what is due in it happens in it, and not while it stands still."""

from collections.abc import Callable

from simulations.world import Timer, World


class Life:
    """`after` is the only clock of what belongs to a process."""

    def __init__(self, world: World) -> None:
        self.is_over = False
        self.world = world
        self._resume_at: float | None = None
        self._postponed: list[Callable[[], None]] = []

    def after(self, pause_s: float, action: Callable[[], None]) -> Timer:
        """Do `action` in so many seconds, if this life is not over then."""
        return self.world.after(pause_s, lambda: self.do(action))

    def every(self, pause_s: float, action: Callable[[], None]) -> None:
        """Do `action` again and again."""

        def again() -> None:
            action()
            self.after(pause_s, again)

        self.after(pause_s, again)

    def do(self, action: Callable[[], None]) -> None:
        """Do `action` now, or when this process goes on; never after its end."""
        if self.is_over:
            return
        if self._resume_at is not None:
            self._postponed.append(action)
        else:
            action()

    def pause(self, seconds: float) -> None:
        """Stand still."""
        until = self.world.now + seconds
        if self.is_over or (self._resume_at is not None and until <= self._resume_at):
            return
        self._resume_at = until
        self.world.at(until, self._resume)

    def end(self) -> None:
        """The process is gone."""
        self.is_over = True
        self._postponed.clear()

    def _resume(self) -> None:
        if self._resume_at is None or self.world.now < self._resume_at:
            return
        self._resume_at = None
        postponed, self._postponed = self._postponed, []
        for action in postponed:
            self.do(action)

    @property
    def is_paused(self) -> bool:
        """Whether it stands still."""
        return self._resume_at is not None
