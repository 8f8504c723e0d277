r"""Classic BPF, the packet filters of ``tcpdump`` and ``SO_ATTACH_FILTER``: read, print, translate, run.

::

    filter_ = parse(subprocess.check_output(["tcpdump", "-ddd", "arp"], text=True))
    print("\n".join(disassemble(filter_)))
    code = translate(filter_)           # eBPF for a socket filter
    Filter(filter_).accepts(packet)     # in the VM
"""
