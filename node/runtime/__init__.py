"""Runtimes: what can run a workload. `base` is the interface, the rest are drivers."""
