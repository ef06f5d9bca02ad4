"""Preparation of curves: smoothing, thinning, the choice of the scale. NumPy only."""

import numpy as np


def window_for(count):
    """Window in points for the running mean of `count` points: about a fortieth, odd, from 1 (short curve) to 501."""
    return 1 if count < 20 else min(max(count // 40, 5), 500) | 1


def running_mean(y, window):
    """Centred running mean, which does not lag behind the curve as an exponential average does.

    Parameters
    ----------
    y : (n,) array
        Values that are not finite are excluded from the mean.
    window : int
        An odd number of points; near the ends only the existing points are used.

    Returns
    -------
    (n,) float64 array
        NaN where the window holds no finite value.
    """
    finite = np.isfinite(y)
    half, box = window // 2, np.ones(window)
    total = np.convolve(np.where(finite, y, 0.0), box)[half : half + len(y)]
    count = np.convolve(finite.astype(np.float64), box)[half : half + len(y)].round()
    return np.divide(total, count, out=np.full(len(y), np.nan), where=count > 0)


def thin(x, y, bins=2000):
    """Reduce a curve to fewer points with the same plot: the minimum and maximum of each bin, so no outlier is lost.

    Parameters
    ----------
    x, y : (n,) arrays
    bins : int
        Curves of up to 4 * bins points are returned unchanged.

    Returns
    -------
    x, y : arrays of at most 3 * bins + 2 points, in the order of x
        A bin with values that are not finite keeps one of them, so that the line still has a gap there.
    """
    if len(x) <= 4 * bins:
        return x, y
    finite = np.isfinite(y)
    keep = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), bins):
        good = part[finite[part]]
        if len(good):
            keep |= {good[np.argmin(y[good])], good[np.argmax(y[good])]}
        if len(good) < len(part):
            keep.add(part[np.argmin(finite[part])])
    index = np.array(sorted(keep), dtype=np.intp)
    return x[index], y[index]


def wants_log(*curves):
    """Return whether to use a logarithmic axis: all finite values positive, the largest over ten times the smallest."""
    values = np.concatenate([np.asarray(y, dtype=np.float64).ravel() for y in curves] or [np.empty(0)])
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() / 10 > values.min())


def inner_range(*curves):
    """Return the range (low, high) of curves without their extreme values, or None for no finite value.

    A curve of 20 values or more loses 0.5 % of them at each end, one at least; all its values count if none of these
    lies further out than the range of the others.
    """
    ranges = []
    for y in curves:
        values = np.sort(np.asarray(y, dtype=np.float64)[np.isfinite(y)])
        if not len(values):
            continue
        cut = -(-len(values) // 200) if len(values) >= 20 else 0
        low, high = values[cut], values[len(values) - 1 - cut]
        scale = np.log if wants_log([low, high]) else lambda v: v
        reach = scale(high) - scale(low)
        if scale(values[-1]) - scale(high) <= reach:
            high = values[-1]
        if (scale is not np.log or values[0] > 0) and scale(low) - scale(values[0]) <= reach:
            low = values[0]
        ranges.append((low, high))
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


def padded(low, high, log):
    """Return the limits of an axis that shows low to high with a margin."""
    if log:
        factor = (high / low) ** 0.05 if high > low else 1.5
        return low / factor, high * factor
    margin = 0.05 * (high - low) or 0.1 * abs(low) or 1.0
    return low - margin, high + margin
