"""Output of commands that train several times: a line for each training that ends, the table, and how to continue."""

import signal


def follow(trainings, found, head, line, conclude, way):
    """Print a line for each training that ends, and the table.

    Parameters
    ----------
    trainings : Many or Sweep
    found : iterator
        Their rows, each when its training has ended.
    head : str
        The first line: how many there are.
    line : function of a row
        Returns its line.
    conclude : function of an output stream
        Prints the table and the files.
    way : str
        The command that continues.

    Returns
    -------
    int or None
        The exit status after a signal; None if none came.
    """
    from ..terminal.output import Output, complain

    out, stopped = Output(), None
    ended = f"; {len(trainings.rows)} of them ended already" if trainings.rows else ""
    print(f"{trainings.path}: {head}{ended}", file=out, flush=True)
    try:
        for row in found:
            notes = [f"note: {remark}" for remark in trainings.remarks]
            print("\n".join([line(row), *notes]), file=out, flush=True)
    except KeyboardInterrupt:  # between two of them
        stopped = "SIGINT came", signal.SIGINT
    if trainings.signal is not None:
        what = f"stopped {' and '.join(sorted(trainings.stopped))}" if trainings.stopped else "came"
        stopped = f"{signal.Signals(trainings.signal).name} {what}", trainings.signal
    if trainings.rows:
        conclude(out)
    if stopped is None:
        return None
    said, number = stopped
    total = trainings.total
    complain(f"{said}; {len(trainings.rows)} of {total} {trainings.what} have ended; continue with {way}")
    return 128 + number
