"""What all tests share: compiled code of one test run is kept in one directory, apart from the user's own cache."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent

# Before nnjit is imported, for this process and those that tests start.
os.environ["NNJIT_CACHE_DIR"] = os.environ.get("NNJIT_TEST_CACHE_DIR") or str(HERE.parent / ".pytest_cache" / "nnjit")
os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(HERE))  # layer_runner
