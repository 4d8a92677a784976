"""Named stories, and pinned seeds of old failures.

`raft` is chaos for a group of our own machines; `yardstick` the same clients on PySyncObj, the negative control.
"""
