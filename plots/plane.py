"""plane.png: what the best parameters predict over the plane of two inputs, and training samples.

For classes each point of the plane has the colour of its class, as in C. F. Higham and D. J. Higham, Deep Learning: An
Introduction for Applied Mathematicians, SIAM Review 61(4), 2019, figures 4 and 8; for values there are contours.
"""

from pathlib import Path

import numpy as np

from . import predictions
from .run_log import PathLike, RunLog, Runs, read_all
from .theme import PALETTE, depth_colours, legend, page, plain

NEEDS = "predictions.safetensors of a network with two inputs"
MARKERS = "oXs^vDP*"


def has_data(run: RunLog) -> bool:
    found = predictions.read(run)
    return found is not None and "plane" in found.tensors


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the plane of each run (of values for each target) into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    found = [(run, each) for run in runs if (each := predictions.read(run)) is not None]
    panels = [
        (run, each, k)
        for run, each in found
        for k in range(1 if each.kind == "classes" else each.tensors["plane"].shape[-1])
    ]
    columns = 1 if len(panels) == 1 else 2
    rows = -(-len(panels) // columns)
    with page(output, 6.4 if columns == 1 else 9.6, 5.0 * rows if columns == 1 else 4.2 * rows) as figure:
        drawn = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (run, each, k) in zip(drawn, panels, strict=False):
            _paint(axes, run, each, k)
        for axes in drawn[len(panels) :]:
            axes.remove()
    return Path(output)


def _paint(axes, run, found, k):
    tensors = found.tensors
    low, high = tensors["low"], tensors["high"]
    first, second = found.names("inputs", 2)
    axes.set_xlabel(first)
    axes.set_ylabel(second)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.grid(False)
    title = f"{plain(run.name)}\nprediction by input, epoch {found.about.get('epoch', '?')}"
    if found.kind == "classes":
        axes.set_title(title)
        _classes(axes, found)
        return
    target = found.names("targets", tensors["plane"].shape[-1])[k]
    axes.set_title(f"{title}: {target}, samples coloured by their true value", fontsize=9.5)
    _values(axes, tensors["plane"][..., k], tensors["points"], tensors["points_true"][:, k], low, high, target)


def _classes(axes, found):
    """Draw the predicted class of each cell, pale, and the samples, with a marker for each class."""
    tensors = found.tensors
    plane, points, true = tensors["plane"], tensors["points"], tensors["points_true"]
    count = max(int(plane.max()) + 1, int(true.max()) + 1, len(found.about.get("classes") or ()))
    colours = _colours(count)
    pale = 1 - 0.35 * (1 - np.array(colours))
    box = (tensors["low"][0], tensors["high"][0], tensors["low"][1], tensors["high"][1])
    axes.imshow(pale[plane], origin="lower", extent=box, aspect="auto", interpolation="bilinear")
    names = found.names("classes", count)
    handles = []
    for c in np.unique(true):
        of = points[true == c]
        style = {"color": colours[c], "marker": MARKERS[c % len(MARKERS)], "markeredgecolor": "white"}
        (line,) = axes.plot(*of.T, linestyle="", markersize=9 if len(true) <= 50 else 5, gid=f"class {c}", **style)
        handles.append((line, f"true: {names[c]}"))
    if len(handles) <= 12:
        legend(axes, handles)


def _colours(count):
    from matplotlib.colors import to_rgb

    return [to_rgb(colour) for colour in (PALETTE if count <= len(PALETTE) else depth_colours(count))][:count]


def _values(axes, plane, points, true, low, high, name):
    """Draw contours of the prediction, and the samples in the same colours."""
    from matplotlib.ticker import MaxNLocator

    cells = len(plane)
    first, second = (low[k] + (np.arange(cells) + 0.5) / cells * (high[k] - low[k]) for k in (0, 1))
    least, most = min(plane.min(), true.min()), max(plane.max(), true.max())
    levels = MaxNLocator(12).tick_values(least, most if most > least else least + 1)
    least, most = levels[0], levels[-1]
    image = axes.contourf(first, second, plane, levels=levels, cmap="viridis")
    axes.scatter(*points.T, c=true, vmin=least, vmax=most, cmap="viridis", s=14, edgecolors="white", linewidths=0.5)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(name)
    bar.outline.set_visible(False)
