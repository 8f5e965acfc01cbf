"""Proof: fingerprints and comparisons of weights."""
