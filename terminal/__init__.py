"""Output on a terminal: lines that stay, one line that is rewritten, the progress of a long work."""
