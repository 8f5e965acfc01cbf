"""What a parity check found, for people: a terminal's table, and a page."""
