"""States for a network's own calls, each used by one call at a time."""

import weakref
from contextlib import suppress
from itertools import count

from ..program.program import Program

LIMIT = 8  # arenas of a network, all programs together; more exist only while more are in use at once


class Arena:
    """A program and a state of its own: theta and gradient are the network's, all else is private.

    The buffers (running statistics) are a copy, so that a forward pass sees the same ones from its beginning to its end
    and its backward pass sees them too, whatever other threads do.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        whole = program.new_state(share=True)
        self.state = type(whole)(**whole._asdict() | {"buffers": whole.buffers.copy()})
        self.spare = False  # one of more than LIMIT
        self.given = 0  # when it was given back last, counted from 0


class Arenas:
    """The arenas of one network: those that no call uses wait here, and the least recently used one leaves first.

    What is done to lists here is safe without a lock, which a thread might hold while another one forks.
    """

    def __init__(self) -> None:
        self._idle: dict[Program, list[Arena]] = {}
        self._all: weakref.WeakSet[Arena] = weakref.WeakSet()
        self._clock = count()

    def take(self, program: Program) -> Arena:
        """An arena of a program, used by nobody else until it is given back or forgotten."""
        try:
            return self._idle[program].pop()
        except (KeyError, IndexError):
            self._idle.setdefault(program, [])
        self._leave(LIMIT - 1)
        arena = Arena(program)
        self._all.add(arena)
        arena.spare = len(self._all) > LIMIT
        return arena

    def give(self, arena: Arena) -> None:
        """Put an arena back."""
        arena.given = next(self._clock)
        self._idle[arena.program].append(arena)
        if arena.spare:
            self._leave(LIMIT)

    def _leave(self, most: int) -> None:
        """Drop idle arenas until there are `most` in all, or none is idle."""
        idle = sorted(
            (arena for arenas in [*self._idle.values()] for arena in [*arenas]), key=lambda arena: arena.given
        )
        for arena in idle[: max(0, len(self._all) - most)]:
            with suppress(ValueError):  # another thread has just taken it
                self._idle[arena.program].remove(arena)
