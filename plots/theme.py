"""The common style of all plots, and writing them to disk.

Figures are made without pyplot, inside a style context: they change neither the user's figures nor matplotlib settings,
need no display, and ignore the user's style.
"""

import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import NnjitError, UsageError
from .series import inner_range, padded, wants_log

FORMATS = ("png", "svg", "pdf")

# Okabe & Ito, "Color Universal Design" (2008), without black (totals) and yellow (too faint on white).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")

DASHES = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (5, 1, 1, 1)))
CORNERS = ("upper right", "lower left", "upper left", "lower right", "center right", "lower center", "upper center")

STYLE = {
    "figure.dpi": 180,
    "font.size": 10,
    "axes.titlesize": 10.5,
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
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.fancybox": False,
    "legend.fontsize": 8.5,
    "legend.borderaxespad": 0.3,
    "legend.borderpad": 0.2,
    "legend.labelspacing": 0.3,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "nnjit",  # equal plots give equal files
}


@contextmanager
def page(output, width=6.4, height=4.2):
    """Yield a figure, and write it to `output` atomically when the block ends.

    Parameters
    ----------
    output : path ending in .png, .svg or .pdf
    width, height : float
        Size in inches, at 180 dots per inch. Legends that have no room inside their axes make the figure higher.

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
        if _place_legends(figure):
            engine.execute(figure)
        figure.set_layout_engine(None)  # with "none", savefig would draw twice
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


def run_styles(count):
    """List a colour and a line style for each of `count` runs, no pair twice; as keywords of `plot`."""
    colours = PALETTE if count <= len(PALETTE) * len(DASHES) else depth_colours(-(-count // len(DASHES)))
    return [{"color": colours[i % len(colours)], "linestyle": DASHES[i // len(colours)]} for i in range(count)]


def depth_colours(count):
    """List `count` colours from dark (first layer) to light, perceptually uniform and safe for colour blindness."""
    import matplotlib

    scale = matplotlib.colormaps["viridis"]
    return [scale(0.83 * i / max(count - 1, 1)) for i in range(count)]  # the light end is too faint on white


def legend(axes, entries):
    """Draw a legend: inside the axes where it covers no curve, or else below. `entries`: list of (handle, label)."""
    if not entries:
        return None
    handles = [handle for handle, _ in entries]
    labels = [f" {label}" if label.startswith("_") else label for _, label in entries]  # matplotlib hides "_name"
    made = axes.legend(handles, labels, loc="upper right")
    made.set_in_layout(False)  # until `page` has placed it
    return made


def _place_legends(figure):
    """Place the legends after the axes have their sizes; return whether the page must be laid out again."""
    from matplotlib.transforms import ScaledTranslation

    renderer = figure.canvas.get_renderer()
    taller: dict[float, float] = {}  # row of axes -> height of its legends in inches
    for axes in figure.axes:
        made = axes.get_legend()
        if made is None or any(_fits(axes, made, corner, renderer) for corner in CORNERS):
            continue
        # A legend that is too long for the axes, or over curves everywhere, goes below, with as many columns as fit.
        wide, room = made.get_window_extent(renderer).width, axes.get_window_extent().width
        handles, labels = made.legend_handles, [text.get_text() for text in made.get_texts()]
        offset = 0.5 if axes.get_xlabel() else 0.3
        below = axes.transAxes + ScaledTranslation(0.0, -offset, axes.figure.dpi_scale_trans)
        place = {"loc": "upper left", "bbox_to_anchor": (0.0, 0.0), "bbox_transform": below}
        for columns in range(max(1, min(len(labels), int(room / wide))), 0, -1):
            made = axes.legend(handles, labels, ncols=columns, columnspacing=1.2, **place)
            if made.get_window_extent(renderer).width <= 1.02 * room:
                break
        row = round(axes.get_position().y0, 2)
        taller[row] = max(taller.get(row, 0.0), made.get_window_extent(renderer).height / figure.dpi)
    if taller:
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + sum(taller.values()))
    return bool(taller)


def _fits(axes, made, corner, renderer):
    """Move a legend to a corner of its axes; return whether it covers no curve there."""
    made.set_loc(corner)
    box, room = made.get_window_extent(renderer), axes.get_window_extent()
    if box.width > 0.62 * room.width or box.height > 0.55 * room.height:
        return False
    box = box.padded(4)
    for line in axes.get_lines():
        path = line.get_transform().transform_path(line.get_path())
        # A path of one point, such as a mark, intersects nothing.
        covered = path.intersects_bbox(box, False) or box.count_contains(path.vertices)
        if covered and line.get_gid() != "guide":
            return False
    for patch in axes.patches:  # bars; a band is a guide
        if patch.get_gid() != "band" and patch.get_window_extent(renderer).overlaps(box):
            return False
    for each in axes.collections:
        if len(offsets := each.get_offsets()) > 1:
            if box.count_contains(each.get_offset_transform().transform(offsets)):
                return False
        elif any(each.get_transform().transform_path(path).intersects_bbox(box) for path in each.get_paths()):
            return False
    return True


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


def mark_outside(axes, curves):
    """Mark values beyond the limits of the y axis by triangles on its edges.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With its final limits.
    curves : list of (x, y, colour)

    Returns
    -------
    list of (handle, label) for the legend; the label has their number and the most extreme one.
    """
    low, high = axes.get_ylim()
    entries = []
    for marker, edge, extreme, word in (("^", 0.975, max, "above"), ("v", 0.025, min, "below")):
        count, handle = 0, None
        worst: list[float] = []
        for x, y, colour in curves:
            beyond = np.isfinite(y) & (y > high if word == "above" else y < low)
            if beyond.any():
                style = {"color": colour, "markersize": 5, "clip_on": False, "zorder": 5, "gid": word}
                at = x[beyond]
                (handle,) = axes.plot(at, [edge] * len(at), marker, transform=axes.get_xaxis_transform(), **style)
                count, worst = count + len(at), [*worst, extreme(y[beyond])]
        if handle is not None:
            how = "largest" if word == "above" else "smallest"
            entries.append((handle, f"{word} the axis: {count}, {how} {extreme(worst):.3g}"))
    return entries


def limit(axes, curves, least=None, log=None):
    """Set limits and scale of the y axis for the curves (x, y, colour), and mark what lies outside.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    curves : list of (x, y, colour)
    least : float, optional
        A lower value that a logarithmic axis holds too.
    log : bool or None
        Whether the axis is logarithmic; None: if the values on it are positive and span more than a decade.

    Returns
    -------
    list of (handle, label) for the legend
    """
    inner = inner_range(*(y for _, y, _ in curves))
    if inner is None:
        return []
    low, high = inner
    if log is None:
        log = wants_log(inner)
    if log:
        low = low if least is None else min(low, least)
        axes.set_yscale("log")
    axes.set_ylim(padded(low, high, log))
    if log:
        log_scale(axes)
    return mark_outside(axes, curves)


def inside(axes, y):
    """Return the values with NaN in place of those that `limit` has marked as outside."""
    low, high = axes.get_ylim()
    return np.where((y >= low) & (y <= high), y, np.nan)


def epochs_on_top(axes, steps_per_epoch):
    """Draw a second axis of epochs above one of steps, if an epoch has several steps; else name the steps epochs."""
    if steps_per_epoch is None:
        return
    if steps_per_epoch == 1:
        axes.set_xlabel("step (one step is an epoch)")
        return
    top = axes.secondary_xaxis("top", functions=(lambda x: x / steps_per_epoch, lambda x: x * steps_per_epoch))
    top.set_xlabel("epoch")
    whole_numbers(top.xaxis)
    top.spines["top"].set_visible(True)


def whole_numbers(axis):
    """Place the ticks of a step or epoch axis only at whole numbers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}".replace(",", " ")))
    axis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


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
