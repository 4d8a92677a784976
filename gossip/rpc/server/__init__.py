"""Serf's RPC port on our node, so that the real `serf` command line works against it."""

from gossip.rpc.server.driver import RPC_PORT, RpcServer

__all__ = ["RPC_PORT", "RpcServer"]
