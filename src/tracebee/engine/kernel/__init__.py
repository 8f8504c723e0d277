"""The engine that runs programs in the kernel: bpf(2), perf_event_open(2), links."""
