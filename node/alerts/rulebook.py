"""What each rule looks for, in sentences made of the same figures that the rule goes by. Pure."""

from collections.abc import Iterable

from node.alerts.specs import INHIBITED_BY, RULES, RuleSpec, SubjectKind
from node.figures.thresholds import FIGURE_RULES, FigureRule
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
    if spec.figures:
        return "; ".join(_figure_fires(one) for one in FIGURE_RULES if one.figure in spec.figures)
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
    ways = [_figure_ends(one) for one in FIGURE_RULES if one.figure in spec.figures]
    if spec.clears:
        ways.append(f"at {_listed(spec.clears)}")
    if spec.clears_copy and not spec.figures:
        ways.append(f"when each copy had {_listed(spec.clears_copy)}")
    if spec.calm_s is not None:
        ways.append(f"after {format_duration(spec.calm_s)} without another")
    ways.append("by `orca alerts resolve`")
    return "; ".join(ways)


def _figure_fires(rule: FigureRule) -> str:
    side = "at most" if rule.is_low else "at least"
    text = f"when {rule.figure} is {side} {rule.warn:g}"
    if rule.hold_s:
        text += f" for {format_duration(rule.hold_s)}"
    return text if rule.error is None else f"{text}, an error from {rule.error:g} on"


def _figure_ends(rule: FigureRule) -> str:
    side = "above" if rule.is_low else "below"
    text = f"when {rule.figure} is {side} {rule.clear:g}"
    return f"{text} for {format_duration(rule.calm_s)}" if rule.calm_s else text


def _listed(kinds: Iterable[EventKind]) -> str:
    return " or ".join(sorted(one.value for one in kinds))
