"""The Wasm runtime: modules and components run by wasmtime inside the node's process.

What a file is decides how it is called (`WasmWorld`). A WASI p1 program without ports,
or a component that exports `wasi:cli/run`, is a *command*: one thread runs it to its
end. A WASI p1 program with ports is *WAGI*: every request runs it afresh, the request
in the environment and on stdin, the response on stdout. A component that exports
`wasi:http/incoming-handler` is *HTTP*: every request instantiates it afresh and calls
its handler; the host side of that is ours (`http_component`), because the engine's own
cannot make request resources. Outgoing HTTP requests of a guest are refused with an
error result.

Files are compiled once, in a process of low priority (`compiler`), and the machine code is cached on
disk under content, engine version, configuration and CPU (`engine`). It is native code,
so a cache file is believed only when its own checksum fits and the engine accepts it;
anything else is compiled again.

A guest never runs on the event loop. It runs in a thread of ours (`calls`) under a
`Call`: every 20 ms of running the engine asks, by its epoch counter, whether the call
may go on. Deadlines, stops and clients that went away are all answered there, so a
loop without end is cut within a tick. The ticker thread sleeps while nothing runs.
Sleeping guests are cut too, because `poll_oneoff` is ours; a guest of a component that
sleeps inside the engine's own WASI cannot be cut, and its thread is left behind until
it wakes (the instance counts as killed meanwhile). A guest without directories writes
through `stdio` of ours as well, because the engine's way of catching output costs more
than the rest of a short run. Traps and stack overflows end the
call and nothing else. Memory is limited per instance; output is handed to the client
while it is produced, with at most 1 MiB waiting, and what goes to the log is rotated.

The binding's high-level calls for components share module globals between threads, so
`values` and `http_component` speak to the C interface themselves and never raise into it.

An instance lives as long as the process. Logs live longer: a directory per allocation.
"""
