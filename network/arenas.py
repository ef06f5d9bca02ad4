"""States for a network's own calls, each used by one call at a time."""

import weakref
from contextlib import suppress
from itertools import count

from ..program.program import Program

LIMIT = 8  # arenas of a network, for all programs; there are more only while more are in use at once


class Arena:
    """A program with a state: theta and gradient are the network's, all other arrays are private.

    The buffers (running statistics) are a copy, so that a forward pass and its backward pass see the same ones,
    whatever other threads do.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        whole = program.new_state(share=True)
        self.state = type(whole)(**whole._asdict() | {"buffers": whole.buffers.copy()})
        self.spare = False  # whether there were LIMIT arenas before
        self.given = 0  # the time when it was last given back, counted from 0


class Arenas:
    """The idle arenas of one network; the least recently used one is dropped first.

    The operations on lists are safe without a lock, which a thread might hold while another one forks.
    """

    def __init__(self) -> None:
        self._idle: dict[Program, list[Arena]] = {}
        self._all: weakref.WeakSet[Arena] = weakref.WeakSet()
        self._clock = count()

    def take(self, program: Program) -> Arena:
        """Take an arena of a program; no other call gets it until it is given back."""
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
        """Give an arena back."""
        arena.given = next(self._clock)
        self._idle[arena.program].append(arena)
        if arena.spare:
            self._leave(LIMIT)

    def _leave(self, most: int) -> None:
        """Drop idle arenas until there are `most` in all, or all are in use."""
        idle = sorted(
            (arena for arenas in [*self._idle.values()] for arena in [*arenas]), key=lambda arena: arena.given
        )
        for arena in idle[: max(0, len(self._all) - most)]:
            with suppress(ValueError):  # another thread has just taken it
                self._idle[arena.program].remove(arena)
