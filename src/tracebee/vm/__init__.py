"""The BPF runtime in user space: verifier, interpreter, JIT, maps, helpers."""
