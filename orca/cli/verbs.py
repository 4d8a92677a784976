"""The table of verbs: name, group, one line of help, and where each is implemented.

It drives both doors: the help text that `orca --help` prints without importing a
parser, and the lazy loading of the parser's commands. Only the standard library's
lightest part is imported here, because every start pays for it.
"""

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

Verb = namedtuple("Verb", ("name", "group", "module", "summary"))
"""One command: `module` has an asyncclick command under the verb's name and `_command`."""

VERBS = (
    Verb("up", "Start", "orca.cli.daemon", "Run a node on this computer."),
    Verb("join", "Start", "orca.cli.daemon", "Let this computer's node into a cluster, and run it."),
    Verb("token", "Start", "orca.cli.trust", "Make, list and revoke tokens that let nodes join."),
    Verb("leave", "Start", "orca.cli.trust", "Take the node out of its cluster, and stop it."),
    Verb("demo", "Start", "orca.cli.demo", "Show a node, two services and their healing, then clean up."),
    Verb("shell", "Start", "orca.cli.shell", "All commands at a prompt, with completion and live names."),
    Verb("deploy", "Change", "orca.cli.deploys", "Put services from files and wait until they are healthy."),
    Verb("plan", "Change", "orca.cli.deploys", "Show what a deploy would change; changes nothing."),
    Verb("run", "Change", "orca.cli.runs", "Run one command in a copy of its own, to its end."),
    Verb("scale", "Change", "orca.cli.changes", "Set the number of copies: orca scale web=3 api=2."),
    Verb("restart", "Change", "orca.cli.changes", "Replace all copies by fresh ones, start-first."),
    Verb("promote", "Change", "orca.cli.changes", "Let a canary or a green revision replace the old one."),
    Verb("pause", "Change", "orca.cli.changes", "Leave a rollout where it is."),
    Verb("resume", "Change", "orca.cli.changes", "Go on with a paused rollout."),
    Verb("rollback", "Change", "orca.cli.changes", "Go back to an earlier revision."),
    Verb("stop", "Change", "orca.cli.changes", "Stop all copies; the service stays known."),
    Verb("start", "Change", "orca.cli.changes", "Start a stopped service."),
    Verb("lock", "Change", "orca.cli.locks", "Hold back the deploys of others; see who does."),
    Verb("secrets", "Change", "orca.cli.secrets", "Set, list and remove secrets; values are never shown."),
    Verb("rm", "Change", "orca.cli.changes", "Remove services and their copies."),
    Verb("label", "Nodes", "orca.cli.upkeep", "Show, set and remove labels of a node."),
    Verb("cordon", "Nodes", "orca.cli.upkeep", "Give a node no new work; what it has stays."),
    Verb("uncordon", "Nodes", "orca.cli.upkeep", "Give it work again."),
    Verb("drain", "Nodes", "orca.cli.upkeep", "Move the work of a node to others, start-first."),
    Verb("undrain", "Nodes", "orca.cli.upkeep", "Give a drained node work again."),
    Verb("status", "Look", "orca.cli.reads", "The cluster at a glance: leader, nodes, services."),
    Verb("nodes", "Look", "orca.cli.members", "Who is in the cluster; remove one for ever."),
    Verb("quorum", "Look", "orca.cli.quorum", "The nodes that decide: who votes, how far each is, and why."),
    Verb("ps", "Look", "orca.cli.reads", "The copies of services and why each is where it is."),
    Verb("why", "Look", "orca.cli.upkeep", "Why copies are where they are, and which nodes take no more."),
    Verb("logs", "Look", "orca.cli.streams", "Output of a service or of one copy."),
    Verb("stats", "Look", "orca.cli.reads", "CPU, memory and traffic of copies."),
    Verb("events", "Look", "orca.cli.streams", "What happened, in order."),
    Verb("alerts", "Look", "orca.cli.alerts", "What is wrong, and what it may come from; ack, silence."),
    Verb("history", "Look", "orca.cli.reads", "Revisions of a service and what each changed."),
    Verb("audit", "Look", "orca.cli.reads", "Who changed or tried to change what, and from where."),
    Verb("exec", "Look", "orca.cli.streams", "Run a command inside a copy."),
    Verb("ca", "Look", "orca.cli.trust", "The cluster's certificate authority; change it."),
    Verb("gossip", "Look", "orca.cli.members", "How members talk: counters, keys, pause and resume."),
    Verb("doctor", "Look", "orca.cli.doctor", "What is wrong with the cluster, and what mends it."),
    Verb("version", "Look", "orca.cli.reads", "Versions of this program and of the node."),
    Verb("completion", "Look", "orca.cli.completion", "Print the shell completion script for bash, zsh or fish."),
)

ONLY_LOOK = frozenset(("status", "ps", "why", "logs", "stats", "events", "history", "audit", "doctor", "version"))
"""Verbs that change nothing, whatever their words: who does not know whether one was carried out may repeat it."""
LOOKS = frozenset(("alerts", "alerts ls", "alerts show", "alerts explain", "alerts silences"))
"""Of verbs that have words which change something, those that do not."""

GROUPS = (
    ("Start", "Start"),
    ("Change", "Change what runs"),
    ("Nodes", "Care for nodes"),
    ("Look", "See what runs"),
)

GLOBAL_OPTIONS = (
    ("--node ADDRESS", "HOST:PORT, https://HOST:PORT or unix:PATH [$ORCA_NODE]."),
    ("--token TOKEN", "API token, or @FILE with it [$ORCA_TOKEN, $ORCA_TOKEN_FILE]."),
    ("--ca FILE", "For https: the cluster's CA in PEM [$ORCA_CA]."),
    ("--json", "One JSON document on stdout; errors as JSON on stderr."),
    ("--quiet, -q", "Print results only, no progress."),
    ("--version", "Print the version of this program."),
    ("--help, -h", "Show this text; `orca VERB --help` shows one verb."),
)

EXIT_CODES = (
    "0 done · 1 failed · 2 wrong usage or input · 3 not found · 4 conflict",
    "5 not available · 6 node cannot start · 7 no right to it",
    "10 plan found changes · 130 Ctrl-C",
)


def only_looks(words: "Sequence[str]") -> bool:
    """Whether the command `words` changes nothing."""
    return words[0] in ONLY_LOOK or " ".join(words[:2]) in LOOKS


def find_verb(name: str) -> Verb | None:
    """The verb called `name`, or None."""
    return next((verb for verb in VERBS if verb.name == name), None)


def help_text() -> str:
    """What `orca --help` prints; every line fits 80 columns."""
    lines = [
        "Usage: orca [OPTIONS] VERB [ARGS]...",
        "",
        "  Run containers and WebAssembly on computers that are all alike.",
    ]
    for group, title in GROUPS:
        lines += ["", f"{title}:"]
        lines += [f"  {verb.name:<11} {verb.summary}" for verb in VERBS if verb.group == group]
    lines += ["", "Options (before or after the verb):"]
    lines += [f"  {option:<15} {text}" for option, text in GLOBAL_OPTIONS]
    lines += ["", "Exit codes:"]
    lines += [f"  {line}" for line in EXIT_CODES]
    return "\n".join(lines) + "\n"
