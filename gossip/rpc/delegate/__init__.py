"""Membership by a Serf agent beside the node (`gossip.backend = "serf"`)."""

from gossip.rpc.delegate.driver import SerfMembership

__all__ = ["SerfMembership"]
