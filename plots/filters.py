"""filters.png: the weights W (n, m, k_1, ..., k_d) of a convolution, from best or else last.safetensors.

n output maps, m input maps. A filter of two dimensions is a tile; one of three or more shows its middle slice; one of
one dimension is a line over the kernel's cells. All share one colour scale, symmetric about zero.
"""

import re
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from ..errors import DataError, UnknownName
from .run_log import PathLike, RunLog, Runs, read_all
from .theme import depth_colours, legend, page, plain

NEEDS = "best.safetensors or last.safetensors with the weights of a convolution"
MOST_MAPS, MOST_INPUTS = 64, 8


def has_data(run: RunLog) -> bool:
    return convolution(run) is not None


def convolution(run, layer=None):
    """Return (file, name, weights) of a convolution, or None if the run saved none.

    Parameters
    ----------
    layer : str or None
        Its name, such as "conv.3"; None: the one nearest the input.

    The parameter names give the depth: `conv.1.W`, `residual.3.conv.1.W`; a convolution's W has three axes or more.
    Raises DataError for a damaged file, UnknownName for another layer.
    """
    from safetensors import SafetensorError, safe_open

    for path in (run.directory / "best.safetensors", run.directory / "last.safetensors"):
        if not path.is_file():
            continue
        try:
            with safe_open(path, framework="numpy") as tensors:
                weights = [
                    name.removesuffix(".W")
                    for name in tensors.keys()  # noqa: SIM118  (not a dict)
                    if name.endswith(".W") and len(tensors.get_slice(name).get_shape()) >= 3
                ]
                if not weights:
                    return None
                weights.sort(key=lambda name: [int(position) for position in re.findall(r"\.(\d+)", name)])
                name = weights[0] if layer is None else layer.removesuffix(".W")
                if name not in weights:
                    raise UnknownName(_unknown(run, name, weights))
                return path, f"{name}.W", np.asarray(tensors.get_tensor(f"{name}.W"), dtype=np.float64)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: expected saved tensors, but they cannot be read ({error})") from None
    return None


def _unknown(run, name, weights):
    near = get_close_matches(name, weights, n=1)
    guess = f"; did you mean {near[0]}?" if near else ";"
    return f"{run.directory}: it has no convolution {name!r}{guess} its convolutions are {', '.join(weights)}"


def draw(run_dirs: Runs, output: PathLike, layer: str | None = None) -> Path:
    """Draw the weights of a convolution (None: the first), one panel per run, into the file `output`; return its path.

    Raises
    ------
    UnknownName
        A run has no convolution of this name.
    """
    runs = read_all(run_dirs, has_data, NEEDS)
    shown = [found for run in runs if (found := convolution(run, layer))]
    heights = [_height(weights[:MOST_MAPS, :MOST_INPUTS]) for _, _, weights in shown]
    with page(output, 6.4, sum(heights)) as figure:
        parts = figure.subfigures(len(runs), 1, squeeze=False, height_ratios=heights).ravel()
        for part, run, (path, name, weights) in zip(parts, runs, shown, strict=True):
            n, m, *kernel = weights.shape
            size = " x ".join(map(str, kernel))
            title = f"{plain(run.name)}: {plain(name)} ({path.stem})\n{n} output x {m} input maps of {size}"
            if n > MOST_MAPS or m > MOST_INPUTS:
                title += f", the first {min(n, MOST_MAPS)} x {min(m, MOST_INPUTS)} of them"
            if len(kernel) > 2:
                title += ", middle slice"
            if m > 1 and len(kernel) > 1:
                title += "\neach column an output map, each row an input map"
            part.suptitle(title, fontsize=10, x=0.02, ha="left")
            weights = weights[:MOST_MAPS, :MOST_INPUTS]
            if len(kernel) == 1:
                _lines(part, weights)
            else:
                _tiles(part, weights[(slice(None), slice(None), *(k // 2 for k in kernel[:-2]))])
    return Path(output)


def _grid(weights):
    """Return (blocks, rows, columns): output maps side by side, wrapped into blocks with one row per input map."""
    n, m = weights.shape[:2]
    rows = m if weights.ndim > 3 else 1
    ideal = min(n, np.sqrt(1.6 * n * rows))
    # The number of columns near the ideal one that leaves the fewest places of the last block blank.
    near = range(max(1, int(0.6 * ideal)), min(n, int(1.7 * ideal)) + 1)
    columns = min(near, key=lambda c: (-n % c, abs(np.log(c / ideal))))
    return -(-n // columns), rows, columns


def _height(weights):
    """Height of one run's panel in inches."""
    blocks, rows, columns = _grid(weights)
    return float(np.clip(5.0 * blocks * rows / columns + 0.22 * blocks, 1.2, 12.0)) + 0.6


def _tiles(part, weights):
    """Draw all filters (n, m, k_1, k_2), with the number of the output map above each column of a block."""
    from matplotlib.collections import PolyCollection

    n, m, k1, k2 = weights.shape
    blocks, rows, columns = _grid(weights)
    width = columns * (k2 + 0.5)
    head = 0.2 * width / 5.0  # room for the numbers, in cells
    axes = part.add_subplot()
    limit = np.abs(weights[np.isfinite(weights)]).max(initial=0.0) or 1.0
    frames = []
    for o in range(n):
        block, column = divmod(o, columns)
        left, top = column * (k2 + 0.5), block * (rows * (k1 + 0.5) + head)
        axes.text(left + k2 / 2, top - 0.15 * head, str(o + 1), ha="center", va="bottom", fontsize=7, color="0.3")
        for c in range(m):
            low = top + c * (k1 + 0.5)
            box = (left, left + k2, low + k1, low)
            image = axes.imshow(weights[o, c], cmap="RdBu_r", vmin=-limit, vmax=limit, extent=box)
            frames.append([(left, low), (left + k2, low), (left + k2, low + k1), (left, low + k1)])
    axes.add_collection(PolyCollection(frames, facecolors="none", edgecolors="0.6", linewidths=0.5))
    axes.set_xlim(-0.1, width)
    axes.set_ylim(blocks * (rows * (k1 + 0.5) + head) - head, -head)
    axes.set_axis_off()
    bar = part.colorbar(image, ax=axes, pad=0.02, fraction=0.05, shrink=0.8, aspect=25)
    bar.set_label("weight")
    bar.outline.set_visible(False)


def _lines(part, weights):
    """Draw weights (n, m, k): one small panel per output map, one line per input map."""
    n, m, k = weights.shape
    rows, _, columns = _grid(weights)
    panels = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    cells = np.arange(1, k + 1)
    for index, axes in enumerate(panels.ravel()):
        if index >= n:
            axes.set_visible(False)
            continue
        axes.axhline(0.0, color="0.6", linewidth=0.8, zorder=1)
        lines = [
            axes.plot(cells, weights[index, j], color=colour, linewidth=1.2, marker="o", markersize=2.5)[0]
            for j, colour in enumerate(depth_colours(m))
        ]
        axes.set_title(str(index + 1), fontsize=8, pad=2, loc="center")
        axes.tick_params(labelsize=7)
        axes.set_xticks([1, k] if k > 1 else [1])
    part.supxlabel("cell of the kernel", fontsize=10)
    part.supylabel("weight", fontsize=10)
    if m > 1:
        legend(
            panels[0, -1] if n >= columns else panels[0, n - 1],
            [(h, f"input map {j + 1}") for j, h in enumerate(lines)],
        )
