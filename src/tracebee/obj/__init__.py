"""The BPF object: maps, programs, data sections, relocations and BTF, apart from any kernel."""
