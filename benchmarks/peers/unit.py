"""What a peer hands to the worker: something that can be checked, reset and run."""


class Unit:
    """One prepared work in one variant (memory format, number of threads, ...).

    Attributes
    ----------
    units : int
        Steps or inferences that one `run` does.
    """

    units = 1

    def check(self):
        """Name -> array, of one run from the initial state: "y", "loss", parameters after one step, gradients."""
        raise NotImplementedError

    def run(self):
        raise NotImplementedError

    def reset(self):
        """Back to the initial state, so that every turn does the same work."""

    def close(self):
        """Give threads and memory back."""


class Absent(Exception):
    """The peer cannot do this work, or is not installed; the text says why."""
