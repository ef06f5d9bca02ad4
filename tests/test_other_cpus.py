"""Kernels for the vectors and registers of other CPUs."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("width", [16, 32, 64])
def test_kernels_with_vectors_of_another_width(width):
    script = Path(__file__).with_name("other_cpu.py")
    ran = subprocess.run([sys.executable, script, str(width), "60"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip()) == (0, "60"), ran.stderr[-2000:]
