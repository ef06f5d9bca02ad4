"""The errors of nnjit: each message is one sentence that says what was expected, what came, and what to do."""


class NnjitError(Exception):
    """Base of all nnjit errors; the command line prints the message without a traceback and exits with status 1."""

    exit_status = 1


class UsageError(NnjitError):
    """The request itself is wrong (a name, a spec, an option, a config); exit status 2."""

    exit_status = 2


class UnknownName(UsageError, LookupError):
    """A name is not in a registry, an option table or a run log."""


class DuplicateName(UsageError):
    """The name is already registered by another class."""


class SpecError(UsageError, ValueError):
    """A spec or an option cannot be read."""


class ShapeError(UsageError, ValueError):
    """Shapes of layers or arrays do not fit together."""


class ConcurrencyError(UsageError, RuntimeError):
    """Two threads at once run an operation that only one thread may run at a time."""


class RunExists(UsageError):
    """The run directory already holds a run."""


class DataError(NnjitError, ValueError):
    """A data file is missing, damaged or of the wrong kind."""


class CheckpointError(NnjitError):
    """A saved network or run directory cannot be read."""


class DeviceError(NnjitError):
    """The device is missing, or a layer has no implementation for it."""


class DivergenceError(NnjitError):
    """The loss or a gradient became NaN or infinite."""
