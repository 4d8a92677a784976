"""The sentences of an alert: templates over the figures of a finding, and nothing else. Pure."""

from collections.abc import Mapping
from typing import Final

from node.alerts.findings import Finding
from orca.model.alert import AlertRule
from orca.model.units import format_duration

_HEADLINES: Final[Mapping[AlertRule, str]] = {
    AlertRule.CRASH_LOOP: "{name} was restarted {times}: {copies} on {where}.",
    AlertRule.OUT_OF_MEMORY: "{name} was killed for want of memory {times}: {copies} on {where}.",
    AlertRule.START_FAILED: "{name} could not be started {times}: {copies} on {where}.",
    AlertRule.UNHEALTHY: "{name} failed its health checks: {copies} on {where}.",
    AlertRule.ROLLOUT_FAILED: "A rollout of {name} failed.",
    AlertRule.COPY_FAILED: "{name} failed for good: {copies} on {where}.",
    AlertRule.RUNTIME_DOWN: "The runtime {runtime} on {name} was not available.",
    AlertRule.STORE_FULL: "The store of {name} took no writes.",
    AlertRule.NODE_FAILED: "{name} did not answer; noticed by {where}.",
    AlertRule.NODE_FLAPPING: "{name} stopped to answer {times}.",
    AlertRule.MEMORY_PRESSURE: "{name} uses most of its memory limit: {copies} on {where}.",
    AlertRule.ERROR_SURGE: "{name} answers with errors (5xx), as the proxy on {where} sees it.",
    AlertRule.SLOW_ANSWERS: "{name} answers slowly, as the proxy on {where} sees it.",
    AlertRule.QUEUE_FULL: "Requests to {name} wait for a copy, and there is hardly room for more on {where}.",
    AlertRule.NODE_MEMORY: "{name} has little memory left.",
    AlertRule.DISK_PRESSURE: "The disk of {name} is nearly full.",
    AlertRule.STORE_PRESSURE: "The store of {name} is nearly full.",
    AlertRule.CLOCK_SKEW: "The clock of {name} differs from those of others.",
    AlertRule.CERTIFICATE_ENDS: "The certificate of {name} is near its end and was not renewed.",
}


def facts_of(finding: Finding) -> tuple[str, ...]:
    """What is certain, the most important first."""
    sentences = [_headline(finding)]
    if finding.exit_codes:
        codes = ", ".join(f"{code} ({_times(count)})" for code, count in finding.exit_codes)
        sentences.append(f"Exit codes: {codes}.")
    if finding.new_revision is not None:
        sentences.append(f"Revision {finding.new_revision} was deployed shortly before.")
    return tuple(sentences)


def _headline(finding: Finding) -> str:
    within = f" within {format_duration(finding.span_s)}" if finding.span_s and finding.count > 1 else ""
    return _HEADLINES[finding.rule].format(
        name=finding.name,
        times=_times(finding.count) + within,
        copies="1 copy" if finding.copies == 1 else f"{finding.copies} copies",
        where=", ".join(finding.nodes),
        runtime=finding.runtime,
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
