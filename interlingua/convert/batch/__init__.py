"""Batches: many conversions from one manifest, carried out by several processes, and only where something changed."""
