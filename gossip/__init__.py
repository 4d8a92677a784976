"""Membership and health by gossip: where the beliefs of several nodes will meet.

Empty while a cluster is one node: what it believes is what it sees itself
(`node/beliefs.py` holds it). The import contracts keep this package pure from its
first module on.
"""
