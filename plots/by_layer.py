"""One curve a layer against depth and time: the frame of gradient_norms.png and update_ratio.png.

Up to ten layers are named in a legend; beyond that a stepped colour bar, first layer on top, names them in order, so
that thirty layers stay readable. Values of zero have no place on a logarithmic axis: they are drawn as triangles on a
floor below everything else, never dropped.
"""

import numpy as np

from .run_log import read_all
from .series import running_mean, thin, window_for
from .theme import depth_colours, legend, log_scale, mark_not_finite, page, plain, whole_numbers

LEGEND_LAYERS = 10


def draw(run_dirs, output, *, key, of, has_data, needs, ylabel, total=None, x="step", before=None):
    """Draw a panel a run.

    Parameters
    ----------
    key : str
        The table of the log records, layer -> value.
    of : "steps" or "epochs"
        Which records; epochs also where a run logged no steps.
    total : str, optional
        The key of a value that sums up the layers, drawn black.
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
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        positive = [y[np.isfinite(y) & (y > 0)] for group in (*map(dict.values, curves), totals) for _, y in group]
        lowest = min((y.min() for y in positive if len(y)), default=None)
        floor = None if lowest is None else lowest / 3
        for index, (axes, run) in enumerate(zip(panels, runs, strict=False)):
            entries = before(axes, run) if before else []
            _paint(figure, axes, curves[index], totals[index], floor, entries)
            axes.set_title(plain(run.name))
            axes.set_ylabel(ylabel)
            axes.set_xlabel(x)
            whole_numbers(axes.xaxis)
            axes.tick_params(labelbottom=True)
            if floor is not None:
                log_scale(axes)
        for axes in panels[len(runs) :]:
            axes.remove()


def _curves(run, key, of, x):
    """{layer: (x, y)} in depth order."""
    of = of if run.layers(key, of) else "epochs"
    return {layer: run.series(f"{key}/{layer}", of=of, x=x) for layer in run.layers(key, of)}


def _total(run, total, of, x):
    if total is None:
        return np.empty(0), np.empty(0)
    curve = run.series(total, of=of, x=x)
    return curve if len(curve[0]) else run.series(total, of="epochs", x=x)


def _paint(figure, axes, curves, total, floor, entries):
    """The curves of one run, and their legend or colour bar."""
    colours = depth_colours(len(curves))
    many = len(curves) > LEGEND_LAYERS
    named, windows, zero = [], {1}, None
    wrong = [x[~np.isfinite(y)] for x, y in [*curves.values(), total]]
    for (layer, (x, y)), colour in zip(curves.items(), colours, strict=True):
        window = window_for(len(x))
        if window > 1 and not many:
            axes.plot(*thin(x, _above(y, y, floor)), color=colour, linewidth=0.6, alpha=0.3, gid="raw")
        windows.add(window)
        smooth = running_mean(y, window) if window > 1 else y
        dots = {"marker": "o", "markersize": 3.5} if len(x) <= 30 else {}
        width = 1.1 if many else 1.5
        (line,) = axes.plot(*thin(x, _above(y, smooth, floor)), color=colour, linewidth=width, gid=layer, **dots)
        named.append((line, plain(layer, 30)))
        if floor is not None and (y == 0).any():
            at = x[y == 0]
            style = {"color": colour, "markersize": 4, "linestyle": "", "gid": "zero"}
            (zero,) = axes.plot(at, np.full(len(at), floor), "v", **style)
    if len(total[0]):
        window = window_for(len(total[0]))
        windows.add(window)
        if window > 1:
            axes.plot(
                *thin(total[0], _above(total[1], total[1], floor)), color="0.55", linewidth=0.6, alpha=0.5, gid="raw"
            )
        smooth = running_mean(total[1], window) if window > 1 else total[1]
        dots = {"marker": "o", "markersize": 3.5} if len(total[0]) <= 30 else {}
        (line,) = axes.plot(
            *thin(total[0], _above(total[1], smooth, floor)),
            color="black",
            linewidth=2.4,
            gid="total",
            zorder=4,
            **dots,
        )
        entries = [(line, "total"), *entries]
    if zero is not None:
        entries = [*entries, (zero, "zero (on the floor)")]
    cross = mark_not_finite(axes, np.unique(np.concatenate(wrong)), "#D55E00")
    if cross:
        entries = [*entries, (cross, "not finite")]
    if many:
        _depth_bar(figure, axes, [label for _, label in named], colours)
        if entries:
            # The colour bar has the right side, so the few other names go below the axis.
            axes.legend(*zip(*entries, strict=True), loc="upper left", bbox_to_anchor=(0.0, -0.16), ncols=len(entries))
    else:
        # The thick line of the total first, then the layers by depth, then the signs.
        first = entries[: len(total[0]) > 0]
        legend(axes, [*first, *named, *entries[len(first) :]])


def _above(y, curve, floor):
    """The curve, interrupted on a logarithmic axis where y is zero: there a triangle stands on the floor."""
    return curve if floor is None else np.where(y == 0, np.nan, curve)


def _depth_bar(figure, axes, names, colours):
    """A stepped colour bar with a name a step, the first layer on top; every k-th name if they would touch."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    count = len(names)
    scale = ScalarMappable(BoundaryNorm(np.arange(count + 1) - 0.5, count), ListedColormap(colours))
    bar = figure.colorbar(scale, ax=axes, pad=0.02, aspect=30)
    every = -(-count // 60)
    bar.set_ticks(range(0, count, every), labels=names[::every])
    bar.ax.tick_params(labelsize=7, length=0)
    bar.ax.minorticks_off()
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)
