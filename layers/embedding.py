"""Category codes become learned numbers."""

from ..errors import ShapeError, SpecError
from ..registry import register
from ..registry.annotations import checked
from .base import Layer, operation, weight

MOST_CODES = 2**24  # float32 holds all whole numbers up to here
# Small, as in Keras. Measured on 420 rows with categories of 5 and 30 values: R2 0.88, with std=1 (PyTorch) 0.84.
START = "normal(std=0.05)"


@register("embedding")
class Embedding(Layer):
    """Replace inputs that hold category codes by learned numbers, pass the others on. (N, m) -> (N, n).

    Input ``columns[k]`` (counted from 0, ascending) holds a code, a whole number v from 0 to ``counts[k] - 1``. It
    becomes row v of that column's table, `size` numbers, where it stands: columns=[1] and size=2 make
    (x0, t0, t1, x2) of (x0, v, x2). With size=[2, 3] each column has its own; without size a column of c codes gets
    round(1.6 c^0.56), at least 1 and at most 600 (the rule of fastai's tabular models).

    The parameter `table` has a row for each code, those of columns[0] first, (sum of counts, size), or the same numbers
    in one dimension where sizes differ. `init` is its initializer; that of PyTorch's nn.Embedding is normal(std=1).

    A number that is no code gives NaN: for its outputs, its derivatives, and the whole gradient of its table. The
    derivative with respect to a code is 0. The layer stands first, or behind `standardize` or `minmax`, which leave
    codes as they are. On the CPU its samples are rows, also in a network whose narrow layers take columns.
    """

    columns: tuple[int, ...]
    counts: tuple[int, ...]
    size: int | tuple[int, ...] | None = None
    init: str | dict | tuple = START

    forward = operation("embedding.forward", form="flat")
    backward_input = operation("embedding.backward_input", form="flat")
    backward_table = operation("embedding.backward_table", form="flat")
    jvp = operation("jvp.embedding", form="flat")
    reads_channels = False
    check_cases = [
        ("([0], [1], size=1)", (1,)),
        ("([1], [5], size=3)", (3,)),
        ("([0, 2, 3], [2, 7, 3], size=[2, 1, 4])", (5,)),
        ("([0, 12], [11, 3])", (13,)),
    ]

    def validate(self):
        if not self.columns:
            raise SpecError("embedding: columns: expected the indices of the inputs that hold codes, got none")
        if any(column < 0 for column in self.columns) or list(self.columns) != sorted(set(self.columns)):
            raise SpecError(
                f"embedding: columns: expected ascending indices, counted from 0, each once, got {list(self.columns)}"
            )
        for name, given in (("counts", self.counts), ("size", self.size)):
            if isinstance(given, tuple) and len(given) != len(self.columns):
                raise SpecError(f"embedding: {name}: expected one for each of {len(self.columns)} columns, got {given}")
        for count in self.counts:
            checked("embedding: counts", count, int, 1, MOST_CODES)
        for size in self.sizes:
            checked("embedding: size", size, int, 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Learned numbers of a code, for each column."""
        if isinstance(self.size, tuple):
            return self.size
        by_rule = (max(1, min(600, round(1.6 * count**0.56))) for count in self.counts)
        return tuple(by_rule) if self.size is None else (self.size,) * len(self.columns)

    def output_shape(self, in_shape):
        if len(in_shape) != 1:
            raise ShapeError(f"embedding: expected an input of shape (features,), got {in_shape}; put it first")
        if self.columns[-1] >= in_shape[0]:
            raise ShapeError(
                f"embedding: columns: there is no input {self.columns[-1]}; the {in_shape[0]} inputs count from 0"
            )
        return (in_shape[0] - len(self.columns) + sum(self.sizes),)

    def codes(self, in_shape):
        return dict(zip(self.columns, self.counts, strict=True))

    def parameters(self, in_shape):
        rows, sizes = sum(self.counts), set(self.sizes)
        numbers = sum(count * size for count, size in zip(self.counts, self.sizes, strict=True))
        shape = (rows, *sizes) if len(sizes) == 1 else (numbers,)
        return {"table": weight(shape, fan_in=1, fan_out=max(sizes), init=self.init)}

    def scalars(self, in_shape):
        (width,) = self.output_shape(in_shape)
        return {
            "features": in_shape[0], "width": width, "columns": self.columns, "counts": self.counts,
            "sizes": self.sizes,
        }  # fmt: skip

    def sees(self, in_shape):
        return "same"
