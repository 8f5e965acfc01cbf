"""From a source to a plan to an output: detection, planning, streaming, configs, vocabularies, residue."""
