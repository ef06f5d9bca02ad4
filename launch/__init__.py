"""The work of the commands: start, resume and report a run; open a saved network."""
