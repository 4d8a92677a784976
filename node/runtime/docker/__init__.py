"""Containers, run by a Docker Engine on this computer.

How it talks. Calls with one answer (create, start, stop, remove, inspect, networks,
stats) go through the `docker` SDK in worker threads; the SDK is imported by the first of
them, so a node that runs no containers never pays for it. Whatever streams or is
hijacked (events, logs, exec, pull, build) and the liveness question itself are spoken
with h11 on trio sockets: such a stream ends the moment its scope is cancelled, a slow
reader slows the engine instead of filling memory, and no thread can be left behind.

What is ours. Containers, networks and volumes are recognised by their labels
(`orca.cluster`, `orca.node`, `orca.allocation`, …), never by pieces of their names,
which are for people. After a restart of the node the containers are simply found again.

The engine's health. One event stream is always open. When nothing has been heard from
the engine for `PING_INTERVAL_S`, it is asked; no answer within `PING_TIMEOUT_S` means
that it hangs: the runtime says so, every waiting call fails with
`RuntimeUnavailableError`, and new calls fail at once until it answers again. Threads
that hang with it end by their socket timeout; they hold slots of a limiter that nobody
uses any more, so they cannot starve later calls.

Cancelled calls. The engine has no "undo", and a thread cannot be interrupted: a
cancelled change goes on in its thread, and the next change to the same allocation waits
for it. So `list_instances` never tells of a copy that a forgotten thread is about to
change behind the caller's back.

Left out: restart policies of the engine (the reconciler restarts, with reasons), the
engine's own health checks (an exec costs 40 ms of CPU; the node probes by itself), host
networking, and engines on other computers (the proxy reaches containers by their bridge
address).
"""

from node.runtime.docker.runtime import DockerLimits, DockerRuntime

__all__ = ["DockerLimits", "DockerRuntime"]
