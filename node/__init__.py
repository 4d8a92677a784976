"""The agent on each computer: runtimes, reconciler, health, proxy, store and API."""
