"""Reference encoders: what runs in a framework's own process. Nothing here is imported by the parent."""
