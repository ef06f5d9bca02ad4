"""Metrics by name: numbers that say how good a network is on a set, of classes, of several labels, of values."""
