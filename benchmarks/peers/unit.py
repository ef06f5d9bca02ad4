"""The interface between a peer and the worker: a unit can be checked, reset and run."""

CALLS = 10_000  # of `predict` in one run of a feedback loop, which then takes milliseconds
CHECKED = 5  # of them in a checked run
FEEDBACK = 1e-3  # factor of a result as the first number of the next sample: small, so that no network diverges


class Unit:
    """One prepared work in one variant (memory format, number of threads, ...).

    Attributes
    ----------
    units : int
        Steps or inferences of one `run`.
    """

    units = 1

    def check(self):
        """Return the results of one run from the initial state by name: "y", "loss", changes of one step, gradients."""
        raise NotImplementedError

    def run(self):
        raise NotImplementedError

    def reset(self):
        """Return to the initial state, so that every turn does the same work."""

    def close(self):
        """Release threads and memory."""


class Absent(Exception):
    """The peer cannot do this work, or is not installed; the text says why."""
