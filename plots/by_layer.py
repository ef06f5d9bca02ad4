"""One curve per layer over time: the common part of gradient_norms.png and update_ratio.png.

A legend names up to ten layers; for more, a stepped colour bar names them in order, first layer on top, so that thirty
layers stay readable. Zeros, which a logarithmic axis cannot show, are drawn as triangles on a floor below all other
values, never dropped.
"""

import numpy as np

from .run_log import read_all
from .series import running_mean, thin, window_for
from .theme import depth_colours, legend, log_scale, mark_not_finite, page, plain, whole_numbers

LEGEND_LAYERS = 10


def draw(run_dirs, output, *, key, of, has_data, needs, ylabel, total=None, x="step", before=None):
    """Draw one panel per run.

    Parameters
    ----------
    key : str
        The key of a table in the log records, layer -> value.
    of : "steps" or "epochs"
        Which records to use; epochs are the fallback for a run without steps.
    total : str, optional
        The key of a value for all layers together, drawn black.
    x : str
        The key of the abscissa, also its label.
    before : function (axes, run) -> legend entries, optional
        Draws guides behind the curves.
    """
    runs = read_all(run_dirs, has_data, needs)
    curves = [_curves(run, key, of, x) for run in runs]
    totals = [_total(run, total, of, x) for run in runs]
    most = max(map(len, curves))
    columns = 1 if len(runs) < 4 else 2
    rows = -(-len(runs) // columns)
    # A name in the colour bar takes 0.13 inch.
    height = min(max(4.5 if rows == 1 else 3.4, 0.13 * most + 0.9 if most > LEGEND_LAYERS else 0.22 * most + 1.2), 9.0)
    with page(output, 8.5 * columns, height * rows) as figure:
        # Subfigures give each panel the space for its own names.
        parts = figure.subfigures(rows, columns, squeeze=False).ravel()[: len(runs)]
        positive = [y[np.isfinite(y) & (y > 0)] for group in (*map(dict.values, curves), totals) for _, y in group]
        lowest = min((y.min() for y in positive if len(y)), default=None)
        floor = None if lowest is None else lowest / 3
        panels = [part.add_subplot() for part in parts]
        for axes, run, layers, whole in zip(panels, runs, curves, totals, strict=True):
            _paint(axes, layers, whole, floor, before(axes, run) if before else [])
            window = window_for(max(len(xs) for xs, _ in [*layers.values(), whole]))
            axes.set_title(plain(run.name) + (f" (running mean of {window})" if window > 1 else ""))
            axes.set_ylabel(ylabel)
            axes.set_xlabel(x)
            whole_numbers(axes.xaxis)
            if floor is not None:
                axes.set_yscale("log")
        # One range for all runs. (A y axis shared between subfigures would redraw the page at each change.)
        low, high = np.transpose([axes.get_ylim() for axes in panels])
        for axes in panels:
            axes.set_ylim(low.min(), high.max())
            if floor is not None:
                log_scale(axes)


def _curves(run, key, of, x):
    """Map layers to (x, y), in depth order."""
    of = of if run.layers(key, of) else "epochs"
    return {layer: run.series(f"{key}/{layer}", of=of, x=x) for layer in run.layers(key, of)}


def _total(run, total, of, x):
    if total is None:
        return np.empty(0), np.empty(0)
    curve = run.series(total, of=of, x=x)
    return curve if len(curve[0]) else run.series(total, of="epochs", x=x)


def _paint(axes, curves, total, floor, entries):
    """Draw the curves of one run over the guides in `entries`, and their legend or colour bar."""
    many = len(curves) > LEGEND_LAYERS
    colours = depth_colours(len(curves))
    zero = None
    named = []
    for (layer, curve), colour in zip(curves.items(), colours, strict=True):
        style = {"color": colour, "linewidth": 1.1 if many else 1.5}
        # Thirty noisy curves hide each other; the raw total still shows every outlier of a layer.
        named.append((_line(axes, curve, floor, layer, raw=not many, **style), plain(layer, 30)))
        x, y = curve
        if floor is not None and (y == 0).any():
            at = x[y == 0]
            (zero,) = axes.plot(at, np.full(len(at), floor), "v", color=colour, markersize=4, gid="zero")
    head = []
    if len(total[0]):
        head.append((_line(axes, total, floor, "total", color="black", linewidth=2.4, zorder=4), "total"))
    if zero is not None:
        entries = [*entries, (zero, "zero (on the floor)")]
    wrong = np.unique(np.concatenate([x[~np.isfinite(y)] for x, y in [*curves.values(), total]]))
    cross = mark_not_finite(axes, wrong, "#D55E00")
    if cross:
        entries = [*entries, (cross, "not finite")]
    if many:
        _depth_bar(axes, [label for _, label in named], colours)
        _legend_below(axes, [*head, *entries])
    else:
        legend(axes, [*head, *named, *entries])


def _line(axes, curve, floor, gid, raw=True, **style):
    """Draw the running mean of a curve, and the raw values, faint, where they differ; return the line."""
    x, y = curve
    window = window_for(len(x))
    mean = y
    if window > 1:
        mean = running_mean(y, window)
        if raw:
            axes.plot(*thin(x, _above(y, y, floor)), color=style["color"], linewidth=0.6, alpha=0.3, gid="raw")
    if len(x) <= 30:
        style.update(marker="o", markersize=3.5)
    return axes.plot(*thin(x, _above(y, mean, floor)), gid=gid, **style)[0]


def _above(y, curve, floor):
    """Return the curve with NaN where y is zero on a logarithmic axis; a triangle on the floor marks these points."""
    return curve if floor is None else np.where(y == 0, np.nan, curve)


def _legend_below(axes, entries):
    """Draw a one-row legend half an inch below the axes, since the colour bar is on the right."""
    from matplotlib.transforms import ScaledTranslation

    if entries:
        below = axes.transAxes + ScaledTranslation(0.0, -0.5, axes.figure.dpi_scale_trans)
        place = {"loc": "upper left", "bbox_to_anchor": (0.0, 0.0), "bbox_transform": below}
        axes.legend(*zip(*entries, strict=True), ncols=len(entries), **place)


def _depth_bar(axes, names, colours):
    """Draw a stepped colour bar with one name per step, the first layer on top; every k-th name if they would touch."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    count = len(names)
    scale = ScalarMappable(BoundaryNorm(np.arange(count + 1) - 0.5, count), ListedColormap(colours))
    bar = axes.figure.colorbar(scale, ax=axes, pad=0.02, aspect=30)
    every = -(-count // 60)
    bar.set_ticks(range(0, count, every), labels=names[::every])
    bar.ax.tick_params(labelsize=7, length=0)
    bar.ax.minorticks_off()
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)
