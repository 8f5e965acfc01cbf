"""Parity checks: two checkpoints run as their own systems would, measured, judged and diagnosed."""
