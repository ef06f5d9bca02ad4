"""Durations and sizes in the units that people use."""

PREFIXES = ("", "k", "M", "G", "T")


def duration(seconds: float) -> str:
    """Return a duration: "4 ms", "1.2 s", "35 s", "1 min 05 s", "2 h 13 min", "3 d 04 h".

    Examples
    --------
    >>> duration(65.2)
    '1 min 05 s'
    """
    if seconds < 0.0995:
        return f"{1000 * max(seconds, 0):.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def sizes(done: int, total: int) -> str:
    """Return how much of a number of bytes is done, in one unit: "0.4 of 1.7 GB"."""
    power = 0
    while total >= 1000 ** (power + 1) and power < len(PREFIXES) - 1:
        power += 1
    digits, unit = (1 if power else 0), 1000**power
    return f"{done / unit:.{digits}f} of {total / unit:.{digits}f} {PREFIXES[power]}B"
