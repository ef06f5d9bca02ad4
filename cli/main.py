"""`nnjit COMMAND ...`: each command is a module of this folder and imports its dependencies late, for a fast --help."""

import os
import sys

import click

from .. import __version__
from ..errors import NnjitError
from ..registry.specs import did_you_mean, quoted
from .bench import bench
from .cache import cache
from .check import check
from .compare import compare
from .compile import compile
from .evaluate import evaluate
from .export import export
from .info import info
from .init import init
from .layers import layers
from .list import list as list_names
from .plot import plot
from .predict import predict
from .run import run
from .show import show
from .sweep import sweep
from .watch import watch

# Command -> its line in `nnjit --help`.
SUMMARIES = {
    "run": "Train a network; without arguments, a small one on the bundled digits.",
    "sweep": "Try values of options that have ranges in a config, and name the best.",
    "watch": "Follow a run from another terminal, as its own terminal shows it.",
    "plot": "Plot loss, metrics, gradient norms and more of one or more runs.",
    "compare": "Compare runs: what differs in their configs, and their best figures.",
    "list": "List all names that a config can use, or those of one kind, or document one.",
    "layers": "List the layers, or document one.",
    "check": "Certify layers: gradients, kernels against their reference, threads, shapes.",
    "bench": "Time each layer of a network; compare with the machine's peak and PyTorch.",
    "evaluate": "Measure loss and metrics of a saved network on data.",
    "predict": "Apply a saved network to data.",
    "export": "Write a saved network as a library for C, without Python.",
    "show": "Print the summary, resolved config or program of a run or a config.",
    "init": "Write a template config, or a template for a new layer.",
    "info": "Print versions, threads, processor and cache of this installation.",
    "compile": "Compile what a run needs, for a container image or a class room.",
    "cache": "Print the directory of compiled code and decoded images, or clear it.",
}

COMMANDS = {
    command.name: command
    for command in (
        run,
        sweep,
        watch,
        plot,
        compare,
        list_names,
        layers,
        check,
        bench,
        evaluate,
        predict,
        export,
        show,
        init,
        info,
        compile,
        cache,
    )
}


class Commands(click.Group):
    """The group of all commands; turns their errors into messages and exit statuses."""

    def main(self, args=None, prog_name="nnjit", **extra):  # type: ignore[override]  # click overloads it by its mode
        """Run a command and exit with 0 for success, 1 for a failure, 2 for a wrong request, 128 + n after signal n.

        Errors of the request or the machine print one sentence on standard error.
        """
        try:
            status = super().main(args, prog_name, **{**extra, "standalone_mode": False})
            sys.stdout.flush()  # here, where a full disk can still be reported
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        except NnjitError as error:
            status = _fail(error, error.exit_status)
        except (click.Abort, KeyboardInterrupt):
            status = 130
        except BrokenPipeError:
            status = _let_go()
        except MemoryError as error:
            status = _fail(f"not enough memory{f': {error}' if str(error) else ''}")
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            status = _let_go(_fail(f"{where}{error.strerror or error}"))
        sys.exit(status if isinstance(status, int) else 0)

    def list_commands(self, ctx):
        return list(SUMMARIES)

    def get_command(self, ctx, name):
        return COMMANDS.get(name)

    def resolve_command(self, ctx, args):
        if args[0] not in SUMMARIES and not args[0].startswith("-"):
            hint = did_you_mean(args[0], SUMMARIES) or f"; the commands are {', '.join(SUMMARIES)}"
            raise click.UsageError(f"no command is called {quoted(args[0])}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nnjit")
def nnjit():
    """Neural networks in which every kernel is a Numba-compiled loop that a person can read.

    `nnjit run` trains a small network on bundled data and plots the run.
    """


def main():
    """Run the `nnjit` script."""
    _open_closed()
    nnjit.main()


def _open_closed():
    """Open the null device for a closed standard stream (``>&-``), or the next file would get its descriptor."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - open as long as the process


def _fail(sentence, status=1):
    from ..terminal.output import complain

    complain(sentence)
    return status


def _let_go(status=1):
    """Discard the buffer of standard output if it cannot be written."""
    from ..terminal.output import discard

    try:
        sys.stdout.flush()
    except OSError:
        discard(sys.stdout)
    return status
