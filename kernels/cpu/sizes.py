"""Micro-kernels of several sizes, all compiled; a chain of comparisons picks one of them when it runs."""

from ..compiler.kernel import inlined


def by_size(make, sizes):
    """Return a function (most, *arguments) that runs make(size) for the largest size up to `most` and returns it.

    `sizes` descend; the last one is taken without a comparison.
    """
    size, *smaller = sizes
    run = make(size)
    if not smaller:

        @inlined
        def last(most, *arguments):
            run(*arguments)
            return size

        return last
    others = by_size(make, smaller)

    @inlined
    def choose(most, *arguments):
        if most >= size:
            run(*arguments)
            return size
        return others(most, *arguments)

    return choose


def of_size(make, sizes):
    """Return a function (size, *arguments) that runs make(size) for a size that is one of `sizes`, the commonest first.

    The last one is taken without a comparison.
    """
    size, *others = sizes
    run = make(size)
    if not others:

        @inlined
        def last(wanted, *arguments):
            run(*arguments)

        return last
    run_other = of_size(make, others)

    @inlined
    def choose(wanted, *arguments):
        if wanted == size:
            run(*arguments)
        else:
            run_other(wanted, *arguments)

    return choose
