"""System calls and kernel files: programs, maps, links, perf events, tracefs, bpffs, features."""
