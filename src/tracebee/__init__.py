"""tracebee: eBPF tracing for Linux in Python, from the bpftrace language to the kernel."""

__version__ = "0.1.0"
