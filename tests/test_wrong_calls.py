"""A few hundred of the drawn wrong calls (wrong_calls.py): a sentence each, no crash, no stale result."""

import os
import subprocess
import sys
from pathlib import Path


def test_drawn_wrong_calls(tmp_path):
    script = Path(__file__).with_name("wrong_calls.py")
    ran = subprocess.run(
        [sys.executable, script, "--count", "300", "--seed", "7"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "300 calls of 46 kinds, seed 7, 0 wrong" in ran.stdout
