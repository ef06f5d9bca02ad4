"""A terminal for tests: programs that run on a pseudo-terminal, and what its screen shows afterwards."""

import os
import re
import select
import struct
import subprocess
import time

SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")


def shown(text, width):
    """Return the lines of a screen of `width` columns, without those that are blank at its end.

    It knows what nnjit writes: carriage return, line feed, erasing of lines, colours; anything else is an error.
    """
    lines, row, column, place = [""], 0, 0, 0
    while place < len(text):
        mark = text[place]
        if found := SEQUENCE.match(text, place):
            numbers, letter = found.groups()
            if letter == "K":
                lines[row] = lines[row][:column] if numbers in ("", "0") else ""
            else:
                assert letter == "m" or (letter in "hl" and numbers == "?25"), found[0]
            place = found.end()
            continue
        if mark == "\r":
            column = 0
        elif mark == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        else:
            assert mark.isprintable(), repr(mark)
            if column == width:  # the terminal wraps
                row, column = row + 1, 0
                lines += [""] * (row == len(lines))
            lines[row] = lines[row].ljust(column)[:column] + mark + lines[row][column + 1 :]
            column += 1
        place += 1
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.rstrip() for line in lines]


def resize(terminal, width):
    """Give a pseudo-terminal a width."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))


def on_terminal(command, width=80, act=None, **environment):
    """Run a command on a pseudo-terminal; return its exit status and all that it wrote.

    `act(process, terminal, text)` is called with the text so far whenever there is more.
    """
    ours, its = os.openpty()
    resize(its, width)
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=inherited | {"TERM": "xterm"} | environment
    )
    os.close(its)
    seen, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                more = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            seen += more
            if act is not None:
                act(process, ours, seen.decode(errors="replace"))
    os.close(ours)
    return process.wait(timeout=60), seen.decode()


class Terminal:
    """A pseudo-terminal as a stream of this process; `text` is all that was written to it."""

    def __init__(self, width=80):
        self._ours, its = os.openpty()
        self.stream, self._seen = open(its, "w", encoding="utf-8"), ""  # noqa: SIM115 - until `close`
        self.resize(width)

    def resize(self, width):
        self.width = width
        resize(self.stream.fileno(), width)

    @property
    def text(self):
        self.stream.flush()
        while select.select([self._ours], [], [], 0.02)[0]:
            self._seen += os.read(self._ours, 65536).decode()
        return self._seen

    def lines(self):
        return shown(self.text, self.width)

    def close(self):
        self.stream.close()
        os.close(self._ours)
