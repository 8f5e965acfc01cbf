"""Bytes <-> named arrays. Knows containers; knows no model and no mapping."""
