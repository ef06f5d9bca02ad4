"""The look all pictures share, and how they reach the disk.

Figures are made without pyplot, inside a style context: neither the user's figures nor the user's matplotlib
settings are touched, no display is needed, and a user's own style does not change these pictures.
"""

import os
import warnings
from contextlib import contextmanager
from pathlib import Path

from ..errors import NnjitError, UsageError

FORMATS = ("png", "svg", "pdf")

# Okabe & Ito, "Color Universal Design" (2008), without black (totals) and yellow (too faint on white).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")

STYLE = {
    "figure.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.35",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.02,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "xtick.color": "0.35",
    "ytick.color": "0.35",
    "xtick.labelcolor": "0.15",
    "ytick.labelcolor": "0.15",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.borderaxespad": 0.0,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "nnjit",  # the same picture gives the same file
}


@contextmanager
def page(output, width=8.0, height=4.5):
    """A figure to draw on, written to `output` in one move when the block ends.

    Parameters
    ----------
    output : path ending in .png, .svg or .pdf
    width, height : float
        Inches, at 160 dots an inch.

    Yields
    ------
    matplotlib.figure.Figure

    Raises
    ------
    UsageError
        Another suffix.
    NnjitError
        The file cannot be written.
    """
    target = Path(output)
    suffix = check_format(target)

    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        _write(figure, target, suffix)


def check_format(path: str | os.PathLike[str]) -> str:
    """The format named by the suffix of `path`: "png", "svg" or "pdf"; UsageError for any other."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        came = f"got .{suffix}" if suffix else "got no suffix"
        raise UsageError(f"{path}: a picture's name must end in .png, .svg or .pdf, {came}")
    return suffix


def _write(figure, target, suffix):
    # Dates would make two equal pictures differ.
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            with warnings.catch_warnings():
                # A run's name in a script the font lacks is drawn as boxes, which is no reason to talk.
                warnings.filterwarnings("ignore", message="Glyph .* missing from")
                figure.savefig(temporary, format=suffix, metadata=undated)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise NnjitError(f"{target}: the picture cannot be written ({error.strerror or error})") from None


def plain(text, longest=36):
    """User text as a label: dollar signs are no mathematics, long text is shortened in the middle."""
    text = "".join(c if c.isprintable() else "?" for c in str(text))
    if len(text) > longest:
        text = f"{text[: longest // 2 - 1]}…{text[-longest // 2 :]}"
    return text.replace("$", r"\$")


def run_colours(count):
    """One colour a run: the palette, and beyond its end a dark-to-light scale."""
    return list(PALETTE[:count]) if count <= len(PALETTE) else depth_colours(count)


def depth_colours(count):
    """`count` colours from dark (the first layer) to light, even in lightness, for colour-blind readers too."""
    import matplotlib

    scale = matplotlib.colormaps["viridis"]
    return [scale(0.83 * i / max(count - 1, 1)) for i in range(count)]  # its light end is too faint on white


def legend(axes, entries):
    """A legend right of the axes, where it covers no data. `entries`: list of (handle, label)."""
    handles = [handle for handle, _ in entries]
    labels = [f" {label}" if label.startswith("_") else label for _, label in entries]  # matplotlib hides "_name"
    return axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1.0))


def mark_not_finite(axes, x, colour):
    """Crosses along the top edge where a value was NaN or infinite; returns the handle, or None for no such x."""
    if not len(x):
        return None
    line = axes.plot(
        x,
        [0.985] * len(x),
        "x",
        transform=axes.get_xaxis_transform(),
        color=colour,
        markersize=6,
        markeredgewidth=1.4,
        clip_on=False,
        zorder=5,
    )
    return line[0]


def whole_numbers(axis):
    """Ticks of a step or epoch axis only at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def log_scale(axes):
    """Make the y axis logarithmic, once the curves are drawn; readable numbers where few powers of ten are in view."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if low < 1e-4 or high > 1e5 or high > 400 * low:
        return
    # 1, 2, 5, 10 over a decade or two; below a decade the ticks of a linear axis.
    locator = LogLocator(subs=(1.0, 2.0, 5.0)) if high > 8 * low else MaxNLocator(nbins=6, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
