"""The BPF instruction set (RFC 9669 and the kernel's additions): encode, decode, assemble, disassemble."""
