"""The sentences of an alert: templates over the figures of a finding, and nothing else. Pure."""

from typing import assert_never

from node.alerts.findings import Finding
from orca.model.alert import AlertRule
from orca.model.units import format_duration


def facts_of(finding: Finding) -> tuple[str, ...]:
    """What is certain, the most important first."""
    sentences = [_headline(finding)]
    if finding.exit_codes:
        codes = ", ".join(f"{code} ({_times(count)})" for code, count in finding.exit_codes)
        sentences.append(f"Exit codes: {codes}.")
    if finding.new_revision is not None:
        sentences.append(f"Revision {finding.new_revision} was deployed shortly before.")
    return tuple(sentences)


def _headline(finding: Finding) -> str:  # noqa: PLR0911 - a line for each rule
    name, count = finding.name, finding.count
    copies = "1 copy" if finding.copies == 1 else f"{finding.copies} copies"
    where = ", ".join(finding.nodes)
    within = f" within {format_duration(finding.span_s)}" if finding.span_s and count > 1 else ""
    match finding.rule:
        case AlertRule.CRASH_LOOP:
            return f"{name} was restarted {_times(count)}{within}: {copies} on {where}."
        case AlertRule.OUT_OF_MEMORY:
            return f"{name} was killed for want of memory {_times(count)}{within}: {copies} on {where}."
        case AlertRule.START_FAILED:
            return f"{name} could not be started {_times(count)}{within}: {copies} on {where}."
        case AlertRule.UNHEALTHY:
            return f"{name} failed its health checks: {copies} on {where}."
        case AlertRule.ROLLOUT_FAILED:
            return f"A rollout of {name} failed."
        case AlertRule.COPY_FAILED:
            return f"{name} failed for good: {copies} on {where}."
        case AlertRule.RUNTIME_DOWN:
            return f"The runtime {finding.runtime} on {name} was not available."
        case AlertRule.STORE_FULL:
            return f"The store of {name} took no writes."
        case AlertRule.NODE_FAILED:
            return f"{name} did not answer; noticed by {where}."
        case AlertRule.NODE_FLAPPING:
            return f"{name} stopped to answer {_times(count)}{within}."
        case _:
            assert_never(finding.rule)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
