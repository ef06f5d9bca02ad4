"""The contract: every operation in plain NumPy, with its formula and source."""
