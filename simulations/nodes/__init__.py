"""Whole nodes on virtual time, complete but for sockets, engines and files.

A node is put together here as `node.agent` and `node.wiring` put it together, of the same pure parts:

- gossip: `simulations.members`, with everything that a node says about itself in its facts;
- `replica`: the real `Replica` on a disk that fails, with its planner; `feed`: intent for nodes without a vote;
  `keeper`: the leader's duty of choosing voters;
- `copies`: the real reconciler against `engine`, which is a container engine in virtual time; `prober`: the real
  monitors of health;
- `ingress`: the real routes and balancer, requests in flight, and the farewells before a copy stops;
- `node` joins all that for one life of a process; `life` is its clock, `wires` its connections to others.

What is decided stands in the pure modules that the node's drivers use as well (`node.linking`, `node.ingress`,
`node.believed`, `consensus.feed`, ...). Here is only what a driver does: it waits, it carries, and it dies.

`cluster` is all of them on one network. `operator` are people: they deploy good and bad images by every strategy,
scale, restart, stop, roll back and drain, and ask again until they are answered. `traffic` are requests from outside.
`knobs` are the faults and what people do, `nemesis` brings the faults about: crashes of the process (containers go on)
and of the computer (they do not), absence, partitions, loss, slow and full disks, engines that do not answer,
containers that die, clocks that drift and jump.

`python -m simulations --scenario services --seed 7` is one run of a few nodes, about 40 times as fast as real time on
one core; `--scenario services-large --seed 2`, fifty nodes with a thousand services of one to four copies, took 107 s
for 132 virtual seconds, most of it for facts that every node learns of every copy.

Left out: bytes of requests, images and their distribution, secrets, jobs, volumes, joining and leaving for good.
"""
