"""Canonical schema and dialects. Knows names; opens no file."""
