"""Measures how good a world is, against the synthetic oracle that knows every pixel, pose and moving object."""
