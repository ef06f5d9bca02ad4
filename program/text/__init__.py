"""The text of a program: one file for each of its parts."""
