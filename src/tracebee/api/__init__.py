"""The library: scripts compiled, run and read from Python, and programs attached directly."""
