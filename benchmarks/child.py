"""Child processes, each with one peer, as their parent sees them."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Timer

LIMIT = 300  # seconds until an answer counts as missing
WORKER = Path(__file__).with_name("worker.py")


class Failed(Exception):
    """A peer is absent, or answered with an error."""


class Child:
    """One peer in its own process; requests and answers are lines of JSON.

    Another version of nnjit has its own Python and worker.
    """

    def __init__(self, name, environment=None, python=sys.executable, worker=WORKER):
        self.name = name
        command = [str(python), str(worker), name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self.version = self.ask("hello")["version"]

    def ask(self, what, **details):
        """Return the answer to one request; raise Failed without an answer."""
        late = []
        limit = Timer(LIMIT, lambda: (late.append(f" after {LIMIT} s without an answer"), self.process.kill()))
        limit.start()
        try:
            self.process.stdin.write(json.dumps({"do": what, **details}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            limit.cancel()
        if not line:
            raise Failed(f"{self.name}: the process ended with status {self.process.wait()}{''.join(late)}")
        answer = json.loads(line)
        if "absent" in answer:
            raise Failed(f"not available: {answer['absent']}")
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def busy(self):
        """Seconds of processor time that the process has used; None if the system does not report it."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return None

    def close(self):
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
