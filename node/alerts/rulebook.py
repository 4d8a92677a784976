"""What each rule looks for, in sentences made of the same figures that the rule goes by. Pure."""

from collections.abc import Iterable

from node.alerts.rules import INHIBITED_BY, RULES, RuleSpec, SubjectKind
from orca.model.alert import AlertRule, RuleView
from orca.model.event import EventKind
from orca.model.units import format_duration


def rule_views() -> tuple[RuleView, ...]:
    """All rules, in the order in which they are looked at."""
    return tuple(
        RuleView(rule=one.rule, severity=one.severity, fires=_fires(one), ends=_ends(one), hidden_by=_hidden_by(one))
        for one in RULES
    )


def _hidden_by(spec: RuleSpec) -> tuple[AlertRule, ...]:
    failed = () if spec.subject is SubjectKind.MEMBER else (AlertRule.NODE_FAILED,)
    return tuple(dict.fromkeys((*INHIBITED_BY.get(spec.rule, ()), *failed)))


def _fires(spec: RuleSpec) -> str:
    raised = _listed(spec.raised_by) + (" for want of memory" if spec.is_out_of_memory else "")
    whose = {SubjectKind.SERVICE: "one copy", SubjectKind.NODE: "one node", SubjectKind.MEMBER: "one member"}
    often = "at the first" if spec.count == 1 else f"at the {spec.count}th"
    if spec.count in {2, 3}:
        often = "at the second" if spec.count == 2 else "at the third"
    text = f"{often} {raised} of {whose[spec.subject]}"
    if spec.count > 1:
        text += f" within {format_duration(spec.window_s)}"
    if spec.is_out_of_memory is False:
        text += ", kills for want of memory aside"
    if spec.hold_s:
        text += f", when nothing takes it back for {format_duration(spec.hold_s)}"
    return text


def _ends(spec: RuleSpec) -> str:
    ways = []
    if spec.clears:
        ways.append(f"at {_listed(spec.clears)}")
    if spec.clears_copy:
        ways.append(f"when each copy had {_listed(spec.clears_copy)}")
    if spec.calm_s is not None:
        ways.append(f"after {format_duration(spec.calm_s)} without another")
    ways.append("by `orca alerts resolve`")
    return "; ".join(ways)


def _listed(kinds: Iterable[EventKind]) -> str:
    return " or ".join(sorted(one.value for one in kinds))
