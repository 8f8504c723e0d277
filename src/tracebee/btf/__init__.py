"""The BPF type format: read, query, build, print as C, CO-RE matching."""
