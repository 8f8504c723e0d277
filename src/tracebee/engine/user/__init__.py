"""The user engine: the same scripts on one's own processes, by ptrace(2), with no privilege at all."""
