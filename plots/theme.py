"""The common style of all plots, and writing them to disk.

Figures are made without pyplot, inside a style context: they change neither the user's figures nor matplotlib settings,
need no display, and ignore the user's style.
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
    "svg.hashsalt": "nnjit",  # equal plots give equal files
}


@contextmanager
def page(output, width=8.0, height=4.5):
    """Yield a figure, and write it to `output` atomically when the block ends.

    Parameters
    ----------
    output : path ending in .png, .svg or .pdf
    width, height : float
        Size in inches, at 160 dots per inch.

    Yields
    ------
    matplotlib.figure.Figure

    Raises
    ------
    UsageError
        The suffix is not one of these.
    NnjitError
        The file cannot be written.
    """
    target = Path(output)
    suffix = check_format(target)

    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.style.context(["default", STYLE]):
        engine = ConstrainedLayoutEngine()
        figure = Figure(figsize=(width, height), layout=engine)
        FigureCanvasAgg(figure)
        yield figure
        engine.execute(figure)  # once: to save a figure that has an engine lays it out twice
        figure.set_layout_engine("none")
        _write(figure, target, suffix)


def check_format(path: str | os.PathLike[str]) -> str:
    """Return the format of the suffix of `path`: "png", "svg" or "pdf"; UsageError for any other."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        came = f"got .{suffix}" if suffix else "got no suffix"
        raise UsageError(f"{path}: a picture's name must end in .png, .svg or .pdf, {came}")
    return suffix


def _write(figure, target, suffix):
    # Dates would make the files of two equal plots differ; to compress well takes a seventh of the time of a picture.
    formats: dict[str, dict] = {
        "png": {"pil_kwargs": {"compress_level": 1}},
        "svg": {"metadata": {"Date": None}},
        "pdf": {"metadata": {"CreationDate": None}},
    }
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            with warnings.catch_warnings():
                # A run name in a script that the font lacks is drawn as boxes, which deserves no warning.
                warnings.filterwarnings("ignore", message="Glyph .* missing from")
                figure.savefig(temporary, format=suffix, **formats[suffix])
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise NnjitError(f"{target}: the picture cannot be written ({error.strerror or error})") from None


def plain(text, longest=36):
    """Convert user text to a label: escape dollar signs, shorten long text in the middle."""
    text = "".join(c if c.isprintable() else "?" for c in str(text))
    if len(text) > longest:
        text = f"{text[: longest // 2 - 1]}…{text[-longest // 2 :]}"
    return text.replace("$", r"\$")


def run_colours(count):
    """List one colour per run: the palette, or a dark-to-light scale if it is too short."""
    return list(PALETTE[:count]) if count <= len(PALETTE) else depth_colours(count)


def depth_colours(count):
    """List `count` colours from dark (first layer) to light, perceptually uniform and safe for colour blindness."""
    import matplotlib

    scale = matplotlib.colormaps["viridis"]
    return [scale(0.83 * i / max(count - 1, 1)) for i in range(count)]  # the light end is too faint on white


def legend(axes, entries):
    """Draw a legend right of the axes, where it covers no data. `entries`: list of (handle, label)."""
    handles = [handle for handle, _ in entries]
    labels = [f" {label}" if label.startswith("_") else label for _, label in entries]  # matplotlib hides "_name"
    return axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1.0))


def mark_not_finite(axes, x, colour):
    """Draw crosses along the top edge at x, where values are NaN or infinite; return the handle, or None for no x."""
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
    """Place the ticks of a step or epoch axis only at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def log_scale(axes):
    """Make the y axis logarithmic after the curves are drawn, with plain numbers if few powers of ten are visible."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if low < 1e-4 or high > 1e5 or high > 400 * low:
        return
    # Ticks at 1, 2, 5, 10 over a decade or two; linear ticks below a decade.
    locator = LogLocator(subs=(1.0, 2.0, 5.0)) if high > 8 * low else MaxNLocator(nbins=6, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
