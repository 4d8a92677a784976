"""The membership of a node whose gossip is its own, as the RPC server and others ask for it."""

from gossip.rpc.embedded.driver import GossipMembership

__all__ = ["GossipMembership"]
