"""The lock under which nnjit compiles, and a property that is computed under it."""

import os

from numba.core.compiler_lock import global_compiler_lock as COMPILING

# One thread at a time compiles, under Numba's own lock, since Numba calls nnjit while compiling and nnjit calls Numba.
# A fork waits for compilations: the child must find neither a held lock nor half a function.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=COMPILING.release)


class once:
    """A property computed on first access, by one thread only.

    functools.cached_property has a separate lock until Python 3.12, which a forked child might find held.
    """

    def __init__(self, function):
        self.function, self.name, self.__doc__ = function, function.__name__, function.__doc__

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        with COMPILING:
            if self.name not in instance.__dict__:
                instance.__dict__[self.name] = self.function(instance)
            return instance.__dict__[self.name]
