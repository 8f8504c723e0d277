"""``tracebee build``: a script as a portable BPF object file."""

from __future__ import annotations

from tracebee.cli.arguments import parse
from tracebee.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = """usage: tracebee build SCRIPT|-e 'PROGRAM' [-o FILE] [options] [parameters]

Compiles a script to an ELF object with BTF and CO-RE relocations, which tracebee run, libbpf and bpftool
load on this kernel and on others. FILE is the script's name with .bpf.o unless -o says otherwise."""


def run(argv: Sequence[str]) -> int:
    """Compile and write; prints the path."""
    from tracebee.btf.reader import Btf
    from tracebee.cli.trace import compile_source, read_source
    from tracebee.lang.portable import to_object
    from tracebee.obj.elf_writer import write_object

    arguments = parse(argv)
    if arguments.flag("help") or not argv:
        print(_USAGE)
        return 0 if argv else 1
    if arguments.text("pid") is not None or arguments.text("command") is not None:
        raise UsageError(
            "an object is built for any process", hint="give -p and -c to tracebee run, which runs it"
        )
    source = read_source(arguments)
    target = arguments.text("output")
    if target is None:
        if arguments.script is None:
            raise UsageError("-e needs -o FILE", hint="say where the object is to be written")
        target = arguments.script.removesuffix(".bt") + ".bpf.o"
    if arguments.text("btf"):
        from tracebee.btf.opening import open_file, use_kernel

        use_kernel(open_file(arguments.text("btf") or ""))
    script = compile_source(arguments, source, cpu_version=3, portable=True)
    obj = to_object(script)
    functions = (*(p.function for p in obj.programs), *obj.functions)
    kernel = Btf.vmlinux() if any(r.core for f in functions for r in f.relocs) else None
    data = write_object(obj, kernel)
    with open(target, "wb") as file:
        file.write(data)
    print(target)
    return 0
