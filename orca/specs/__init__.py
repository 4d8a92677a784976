"""Reading service files: text to specs, or one error that names every problem.

Two formats, one path. A TOML service file (`[[service]]` tables) or a Compose file
becomes a *document* whose values know their line (`toml_text`, `yaml_text`). A *reader*
(`service_file`, `compose`) walks it with cursors (`section`) that record a problem and go
on, so that one pass finds all of them, and notes which line each field of the spec came
from. Then the *rules* (`rules`, `limits`) look at the finished specs, alone, together and
beside what is deployed; they know nothing of files, so the node applies the same rules to
what the API sends. Only when nothing was found are specs given out (`load`). All of it is
pure; `files` is the only module that touches the disk, and it blocks.

Input is hostile until read: 1 MiB a file, 32 levels deep, 200,000 YAML values after
aliases, no tags, no duplicate keys, at most 200 problems reported.

Defaults that are decided here:

- A TOML service with a TCP port and no word on health or readiness is ready when its
  first TCP port accepts a connection (every 5 s, timeout 2 s, 3 failures). `readiness = false`
  leaves it unprobed. `health = "/path"` probes readiness and liveness by HTTP.
- A Compose service without a health check is ready when it runs, as with Docker; so are
  its sizes (`512m` is 512 MiB). Without `restart` it is kept running, unless a neighbour
  waits for `service_completed_successfully`: then it is a job. Labels `orca.domain`,
  `orca.path` and `orca.health` give it a route and an HTTP probe.
- A service that publishes a host port is replaced stop-first unless it says otherwise:
  two copies cannot hold one port of a node.
- A Wasm service with a route and no port listens on 80, a number that only the proxy sees.
- `${secrets.NAME}` is refused: this version keeps no secrets, and an empty string in its
  place would start a service with the wrong password.

A node needs `rules` all the time and the readers only when a file is sent to it, so nothing is
imported here.

Left out on purpose: includes and extends (a spec is one file), external networks and
volumes (Orca makes its own), device access, static addresses.
"""
