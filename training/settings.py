"""How to train, with the defaults that `Network.fit`, `Network.compile` and `nnjit run` share."""

from dataclasses import dataclass

from ..program.state import MAX_SEED
from ..registry.annotations import checked
from ..registry.options import SpecLike


@dataclass
class Settings:
    """How to train; the words are those of the config's [training], where each is described."""

    loss: SpecLike = "cross_entropy"
    optimizer: SpecLike = "adam(lr=3e-3)"
    schedule: SpecLike = "constant"
    clip: SpecLike | None = None
    epochs: int = 10
    batch_size: int = 32
    seed: int = 0
    norm: float = 2.0
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.epochs = checked("epochs", self.epochs, int, 1)
        self.batch_size = checked("batch_size", self.batch_size, int, 0)
        self.seed = checked("seed", self.seed, int, 0, MAX_SEED)
        self.norm = checked("norm", self.norm, float)
