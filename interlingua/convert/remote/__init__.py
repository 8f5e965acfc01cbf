"""Checkpoints that are elsewhere: read by ranges through a sparse local copy, and uploaded whole."""
