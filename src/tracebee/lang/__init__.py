"""The bpftrace language: source text to IR."""
