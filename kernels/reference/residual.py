"""The sum at the end of a residual, in NumPy: y = f(x) + x (He et al. 2016, arXiv:1512.03385, eq. 1)."""


def add(x, skip, y):
    """y = x + skip, all of one shape. The backward pass adds the two gradients in the same way: dx = df + dy."""
    y[...] = x + skip
