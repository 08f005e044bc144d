"""The composition root: who knows everybody."""

from pareta_agent.node.node import Node
from pareta_agent.node.ready import PlaneAddress, Ready

__all__ = ["Node", "PlaneAddress", "Ready"]
