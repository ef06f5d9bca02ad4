"""What the commands do: start, resume and report a run; open a saved network."""
