"""One curve per layer over time: the common part of gradient_norms.png and update_ratio.png.

A legend names up to ten layers; for more, a stepped colour bar names them in order, first layer on top, so that thirty
layers stay readable. Zeros, which a logarithmic axis cannot show, are marks below all other values, in a row for each
layer that has some, and the legend counts them. The total is a wide grey line behind the layers, so that a layer which
makes up nearly all of it is seen on it. Raw values are faint, and only there for few layers.
"""

import numpy as np

from .run_log import read_all
from .series import running_mean, thin, window_for
from .theme import (
    depth_colours,
    epochs_on_top,
    inside,
    legend,
    limit,
    log_scale,
    mark_not_finite,
    page,
    plain,
    whole_numbers,
)

LEGEND_LAYERS = 10
RAW_LAYERS = 4  # most layers whose raw values are drawn too
ZERO_NAMES = 4  # most layers with zeros that a legend beside a colour bar names


def draw(run_dirs, output, *, key, of, has_data, needs, ylabel, total=None, x="step", before=None):
    """Draw one panel per run.

    Parameters
    ----------
    key : str
        The key of a table in the log records, layer -> value.
    of : "steps" or "epochs"
        Which records to use; epochs are the fallback for a run without steps.
    total : str, optional
        The key of a value for all layers together.
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
    height = min(max(4.2 if rows == 1 else 3.2, 0.13 * most + 0.9 if most > LEGEND_LAYERS else 0.0), 9.0)
    with page(output, 6.4 if columns == 1 else 11.0, height * rows) as figure:
        # Subfigures give each panel the space for its own names.
        parts = figure.subfigures(rows, columns, squeeze=False).ravel()[: len(runs)]
        panels = [part.add_subplot() for part in parts]
        for axes, run, layers, whole in zip(panels, runs, curves, totals, strict=True):
            window = window_for(max(len(xs) for xs, _ in [*layers.values(), whole]))
            axes.set_title(plain(run.name) + (f" (running mean of {window})" if window > 1 else ""))
            axes.set_ylabel(ylabel)
            axes.set_xlabel(x)
            whole_numbers(axes.xaxis)
            _paint(axes, layers, whole, before(axes, run) if before else [])
            if x == "step":
                epochs_on_top(axes, run.steps_per_epoch)
        if len({axes.get_yscale() for axes in panels}) == 1:
            # One range for all runs. (A y axis shared between subfigures would redraw the page at each change.)
            low, high = np.transpose([axes.get_ylim() for axes in panels])
            for axes in panels:
                axes.set_ylim(low.min(), high.max())
                if axes.get_yscale() == "log":
                    log_scale(axes)  # ticks for the common range


def _curves(run, key, of, x):
    """Map layers to (x, y), in depth order."""
    of = of if run.layers(key, of) else "epochs"
    return {layer: run.series(f"{key}/{layer}", of=of, x=x) for layer in run.layers(key, of)}


def _total(run, total, of, x):
    if total is None:
        return np.empty(0), np.empty(0)
    curve = run.series(total, of=of, x=x)
    return curve if len(curve[0]) else run.series(total, of="epochs", x=x)


def _paint(axes, curves, total, entries):
    """Draw the curves of one run over the guides in `entries`, and their legend or colour bar."""
    many = len(curves) > LEGEND_LAYERS
    colours = depth_colours(len(curves))
    everything = [*zip(curves.items(), colours, strict=True), *([(("total", total), "0.5")] if len(total[0]) else [])]
    positive = [y[np.isfinite(y) & (y > 0)] for (_, (_, y)), _ in everything]
    log = any(len(y) for y in positive)
    # On a logarithmic axis zeros are drawn apart.
    shown = [(x, np.where(y == 0, np.nan, y) if log else y, c) for (_, (x, y)), c in everything]
    zeros = [name for name, (_, y) in curves.items() if log and (y == 0).any()]
    # Single small values lie below the axis, which would else be theirs; large ones are marked if they lie above.
    means = [running_mean(y, window_for(len(y))) for _, y, _ in shown]
    least = (
        min((y[np.isfinite(y) & (y > 0)].min(initial=np.inf) for y in means), default=np.inf) / 3 if log else -np.inf
    )
    floor = least if zeros else None
    bounded = [(x, np.maximum(y, least), c) for x, y, c in shown]
    outside = limit(axes, bounded, None if floor is None else floor / _row(len(zeros)) ** len(zeros), log or None)
    named = []
    for ((layer, (x, y)), colour), (_, drawn, _) in zip(everything, shown, strict=True):
        style = {"color": colour, "linewidth": 1.1 if many else 1.5}
        if layer == "total" and y is total[1]:
            style = {"color": "0.78", "linewidth": 5.0, "zorder": 1.5, "solid_capstyle": "round"}
        raw = len(curves) <= RAW_LAYERS and layer in curves
        line = _line(axes, x, drawn, layer, raw, **style)
        label = plain(layer, 30)
        if layer in zeros:
            at = x[y == 0]
            height = floor / _row(len(zeros)) ** zeros.index(layer)
            axes.plot(at, np.full(len(at), height), "|", color=colour, markersize=4, gid="zero")
            label += f" (0 at {len(at)} of {len(y)})"
        named.append((line, label))
    head = [named.pop()] if len(total[0]) else []
    wrong = np.unique(np.concatenate([x[~np.isfinite(y)] for x, y in [*curves.values(), total]]))
    cross = mark_not_finite(axes, wrong, "#D55E00")
    entries = [*entries, *outside, *([(cross, "not finite")] if cross else [])]
    if many:
        _depth_bar(axes, [plain(name, 30) for name in curves], colours)
        apart = [one for name, one in zip(curves, named, strict=True) if name in zeros]
        more = [(apart[-1][0], f"and {len(apart) - ZERO_NAMES} layers more with 0")] if len(apart) > ZERO_NAMES else []
        legend(axes, [*head, *apart[:ZERO_NAMES], *more, *entries])
    else:
        legend(axes, [*head, *named, *entries])


def _row(count):
    """Return the ratio between the rows of zeros of `count` layers: 30 of them take a decade and a half."""
    return 1.5 if count <= 8 else 30 ** (1 / count)


def _line(axes, x, y, gid, raw, **style):
    """Draw the running mean of a curve, and its raw values, faint, where they differ; return the line."""
    window = window_for(len(x))
    if window > 1 and raw:
        axes.plot(*thin(x, inside(axes, y)), color=style["color"], linewidth=0.4, alpha=0.25, zorder=1.2, gid="raw")
    y = np.where(y <= axes.get_ylim()[1], y, np.nan)  # what is marked as above the axis is not in the mean
    mean = np.where(np.isfinite(y), running_mean(y, window), np.nan) if window > 1 else y
    if len(x) <= 30 and style["linewidth"] < 4:
        style.update(marker="o", markersize=3)
    return axes.plot(*thin(x, mean), gid=gid, **style)[0]


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
