"""Clipping: scale a gradient down to length `max` in the l_p norm if it is longer, ``clip="norm(max=1.0, p=2)"``."""

import math

from ..errors import SpecError
from ..program.norms import HIGHEST, WHY
from ..registry import Options, parse
from ..registry.options import SpecLike


class Clip(Options):
    """g <- g min(1, max / ||g||_p)."""

    max: float = 1.0
    p: float = 2.0

    def validate(self) -> None:
        if not 0 < self.max < math.inf:
            raise SpecError(f"clip: max must be a finite number above 0, got {self.max}")
        if not 1 <= self.p <= HIGHEST and self.p != math.inf:
            raise SpecError(f"clip: p must be from 1 to {HIGHEST}, or inf, got {self.p}: {WHY}")

    def spec(self) -> str:
        """Return the spec of an equal clip, with both options."""
        return f"norm(max={self.max}, p={self.p})"


def create(spec: SpecLike | None) -> Clip | None:
    """Make a Clip from ``norm(max=..., p=...)``; None stays None."""
    if spec is None or isinstance(spec, Clip):
        return spec
    parsed = parse(spec, "clip")
    if parsed.name != "norm":
        raise SpecError(f"clip: expected norm(max=1.0, p=2), got {spec!r}")
    return Clip(*parsed.args, **parsed.kwargs)
