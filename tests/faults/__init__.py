"""What every command does when the system fails it: faults at the system-call boundary, one at a time."""
