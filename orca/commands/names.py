"""What people mean by a name: `web`, `shop/web`, `web.2`, or the start of a copy's id. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from orca.errors import AmbiguousNameError, InvalidRequestError, NotFoundError
from orca.model.allocation import TERMINAL_PHASES, DesiredStatus
from orca.model.ids import DEFAULT_PROJECT, display_name
from orca.model.view import AllocationView, ServiceView

_SLOT = re.compile(r"(?P<service>.+)\.(?P<slot>\d{1,6})")
_ID_PART = re.compile(r"[a-z2-7]{2,12}")


class WholeService(msgspec.Struct, frozen=True, kw_only=True):
    """A name that meant a service."""

    service: ServiceView


class OneCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A name that meant one copy of `service`."""

    service: ServiceView
    copy: AllocationView


Target: TypeAlias = WholeService | OneCopy


def slot_name(copy: AllocationView) -> str:
    """How people write a copy: `web.2`, `shop/web.2`; they count slots from 1."""
    return f"{display_name(copy.service)}.{copy.slot + 1}"


def resolve_service(text: str, services: Sequence[ServiceView]) -> ServiceView:
    """The service that `text` means: `shop/web`, or `web` when that is clear.

    A plain name is looked up in the default project first, as tables write it, then
    in all others. Raises NotFoundError with similar names, AmbiguousNameError with the
    full names when several projects have one.
    """
    if "/" in text:
        found = [service for service in services if service.id == text]
    else:
        found = [service for service in services if service.id == f"{DEFAULT_PROJECT}/{text}"]
        found = found or [service for service in services if service.name == text]
    if len(found) == 1:
        return found[0]
    if found:
        full = ", ".join(sorted(str(service.id) for service in found))
        raise AmbiguousNameError(f"{text!r} may be {full}", hint="write the project too, for example " + found[0].id)
    raise NotFoundError(f"there is no service {text!r}", hint=_near(text, services))


def resolve_services(texts: Iterable[str], services: Sequence[ServiceView]) -> tuple[ServiceView, ...]:
    """The services that `texts` mean, each once, in the order written; raises like `resolve_service`."""
    found = {service.id: service for service in (resolve_service(text, services) for text in texts)}
    return tuple(found.values())


def resolve_target(text: str, services: Sequence[ServiceView]) -> Target:
    """The service or the copy that `text` means.

    Tried in this order: a service's name, a slot (`web.2`), the id of a copy or its
    unique start. Raises NotFoundError and AmbiguousNameError.
    """
    try:
        return WholeService(service=resolve_service(text, services))
    except NotFoundError as error:
        unknown = error
    match = _SLOT.fullmatch(text)
    if match is not None:
        service = resolve_service(match["service"], services)
        return OneCopy(service=service, copy=_copy_of_slot(service, int(match["slot"]) - 1))
    if _ID_PART.fullmatch(text):
        fitting = [(service, copy) for service in services for copy in service.allocations if copy.id.startswith(text)]
        exact = [pair for pair in fitting if pair[1].id == text]
        if len(exact or fitting) == 1:
            service, copy = (exact or fitting)[0]
            return OneCopy(service=service, copy=copy)
        if fitting:
            shown = ", ".join(f"{copy.id} ({slot_name(copy)})" for _, copy in fitting[:8])
            raise AmbiguousNameError(f"{text!r} may be {shown}", hint="write more of the id")
    raise NotFoundError(f"there is no service or copy {text!r}", hint=unknown.hint)


def resolve_copy(text: str, services: Sequence[ServiceView]) -> AllocationView:
    """One copy to work in: as `resolve_target`, and a service means its first ready copy.

    Raises NotFoundError when the service has no copy that runs.
    """
    target = resolve_target(text, services)
    if isinstance(target, OneCopy):
        return target.copy
    current = current_copies(target.service)
    if not current:
        raise NotFoundError(f"{display_name(target.service.id)} has no copy that runs", hint="see orca ps")
    return min(current, key=lambda copy: (not copy.is_ready, copy.slot))


def current_copies(service: ServiceView) -> tuple[AllocationView, ...]:
    """The copies that are meant to exist, by slot and then newest first."""
    wanted = [copy for copy in service.allocations if copy.desired is DesiredStatus.RUNNING]
    return tuple(sorted(wanted, key=lambda copy: (copy.slot, -copy.revision, -copy.created_at_ms)))


def parse_scale(text: str) -> tuple[str, int]:
    """`web=3` as name and number of copies. Raises InvalidRequestError saying what is allowed."""
    name, separator, number = text.partition("=")
    if not (separator and name and number.isdecimal() and len(number) <= 6):
        raise InvalidRequestError(f"{text!r} is no scale; write SERVICE=COPIES, for example web=3")
    return name, int(number)


def _copy_of_slot(service: ServiceView, slot: int) -> AllocationView:
    copies = [copy for copy in service.allocations if copy.slot == slot]
    if not copies:
        slots = sorted({copy.slot for copy in service.allocations})
        known = ", ".join(f"{display_name(service.id)}.{number + 1}" for number in slots) or "none"
        raise NotFoundError(f"{display_name(service.id)} has no copy in slot {slot + 1}", hint=f"its copies: {known}")
    return max(
        copies,
        key=lambda copy: (
            copy.desired is DesiredStatus.RUNNING,
            copy.phase not in TERMINAL_PHASES,
            copy.revision,
            copy.created_at_ms,
        ),
    )


def _near(text: str, services: Sequence[ServiceView]) -> str:
    """A hint with the names most like `text`; all of them when they are few."""
    import difflib

    names = sorted({display_name(service.id) for service in services})
    if not names:
        return "no service is deployed yet; try orca deploy"
    by_short = {name.rpartition("/")[2]: name for name in names}
    close = difflib.get_close_matches(text.rpartition("/")[2], by_short, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(by_short[name] for name in close) + "?"
    return "known services: " + ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
