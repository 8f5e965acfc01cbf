"""The commands as processes: what pip installs, and ``python -m interlingua``."""

import atexit
import gc

# Imports and plans make hardly any garbage. To look for it among them takes a tenth of a short conversion, as it is by
# default, and again when the process ends, where the system frees all at once.
gc.set_threshold(1 << 16)
atexit.register(gc.freeze)

from interlingua.cli import convert_checkpoint, main, parity_check  # noqa: E402 - after the above

__all__ = ["convert_checkpoint", "main", "parity_check"]

if __name__ == "__main__":
    main()
