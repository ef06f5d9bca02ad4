"""torch.compile: the eager peer's works with whole networks, with the module compiled."""

from peers import torch_peer
from peers.torch_peer import prepare, version

__all__ = ["prepare", "version"]

torch_peer.COMPILED = True
