"""The BPF object that every front end makes and every engine runs.

It is plain data, the same on every machine: what depends on the running kernel (file descriptors,
BTF ids, field offsets) stays symbolic in relocations until an engine loads it.
"""

from __future__ import annotations

from tracebee.isa.insn import Insn
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.isa.codec import ByteOrder

ARENA_DATA = ".addr_space.1"  # the section of variables that lie in the object's arena


class MapDef(NamedTuple):
    """A map to create: the fields of ``union bpf_attr`` for BPF_MAP_CREATE, by name.

    Sizes are in bytes. ``max_entries`` 0 means the engine's choice for a script's ring buffer, and for
    perf event arrays the number of CPUs.
    ``contents`` is the initial value of element 0 of a data-section array (``.rodata`` and so on), ``align``
    the alignment that the section asks for. ``type_id`` is the BTF_KIND_VAR of the object's BTF that defines
    the map, 0 for one that is defined otherwise. The section ARENA_DATA is no map of its own, but the
    beginning of the object's one arena.
    """

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    key_type_id: int = 0
    value_type_id: int = 0
    inner: MapDef | None = None
    values: tuple[tuple[int, str], ...] = ()  # static (index, program or map name) contents
    pinning: str | None = None
    numa_node: int | None = None
    extra: int = 0
    contents: bytes | None = None
    frozen: bool = False  # read-only for programs and frozen after loading (.rodata)
    align: int = 8
    type_id: int = 0


class RelocKind:
    """What a relocation puts into its instruction."""

    MAP = "map"  # lddw: the map's file descriptor
    DATA = "data"  # lddw: address of a byte in a data-section map's value; addend is the offset
    FUNC = "func"  # lddw: address of a BPF function (a callback)
    CALL = "call"  # call: another function of this object
    KFUNC = "kfunc"  # call: a kernel function by name
    KSYM = "ksym"  # lddw: a kernel variable by name (``Extern`` says whether it is typed)
    EXTERN = "extern"  # lddw: address of what another object defines, until they are linked
    CORE = "core"  # immediate or offset: a CO-RE value; ``core`` says which


class CoreReloc(NamedTuple):
    """A CO-RE relocation against a kernel type, by name (``struct bpf_core_relo``).

    :param kind: a value of the kernel's ``enum bpf_core_relo_kind``.
    :param type_name: root type as C writes it: ``struct task_struct``, ``union u``, ``enum e``, ``u64``.
    :param access: member path such as ``se.vruntime`` or ``comm[0]``; an enumerator's name for enum
        kinds; empty for type kinds.
    :param type_id: BTF id of the root type in the object's own BTF, 0 when there is none: the
        local type against which the names are matched. A script's relocations carry 0 and are
        resolved by name alone; the ELF writer makes local BTF for them.
    :param spec: the access string in ``.BTF.ext`` form (``0:1:2``) when it came from an ELF file.
    """

    kind: int
    type_name: str
    access: str
    type_id: int = 0
    spec: str = ""


class Reloc(NamedTuple):
    """One relocation: ``at`` is the Insn's position in ``Function.insns`` (not a slot number)."""

    at: int
    kind: str
    symbol: str
    addend: int = 0
    core: CoreReloc | None = None
    weak: bool = False


class LineInfo(NamedTuple):
    """The source place of an instruction and of those after it, up to the next LineInfo."""

    at: int
    file: str
    text: str
    line: int
    column: int


class Function(NamedTuple):
    """A compiled function. Jumps inside are already resolved; calls to others are relocations.

    ``exception_callback`` names the function that a program runs in its own place when bpf_throw() ends it.
    """

    name: str
    insns: tuple[Insn, ...]
    relocs: tuple[Reloc, ...] = ()
    lines: tuple[LineInfo, ...] = ()
    type_id: int = 0  # BTF_KIND_FUNC in the object's BTF, 0 when it has none
    args: int = 1
    is_global: bool = False
    exception_callback: str = ""


class ProgramDef(NamedTuple):
    """A program: an entry function plus how it is typed and where its section says it attaches.

    ``section`` is libbpf's spelling (``kprobe/vfs_read``, ``tracepoint/sched/sched_switch``);
    functions reached by CALL and FUNC relocations are found in ``Object.functions``.
    """

    function: Function
    section: str
    type: int
    expected_attach_type: int = 0
    flags: int = 0
    attach_target: str = ""  # kernel function or type for fentry, fexit, tp_btf, iter, lsm, struct_ops
    autoload: bool = True

    @property
    def name(self) -> str:
        """The program's name, its entry function's."""
        return self.function.name


class Variable(NamedTuple):
    """A variable: ``size`` bytes at ``offset`` of the data section ``map``.

    :param type_id: its type (that of the BTF_KIND_VAR) in the object's BTF.
    :param is_static: no other object can refer to it, and others may have one of the same name.
    """

    name: str
    map: str
    offset: int
    size: int
    type_id: int
    is_static: bool = False


class Extern(NamedTuple):
    """Something the object expects the kernel to have, or another object to define.

    :param kind: ``kconfig`` (a value of the kernel's configuration, put at ``offset`` of ``.kconfig``),
        ``ksym`` (a kernel variable), ``kfunc`` (a kernel function), or ``object`` (a function, variable or
        map of another object, with which this one must be linked before it can be loaded).
    :param type_id: its type in the object's BTF; 0 for a symbol without a type (``void``), which needs
        kallsyms instead of the kernel's BTF.
    :param weak: it may be missing: it is then 0, and a call to it is poisoned.
    :param map: for a map of another object, what the definition there has to say.
    :param hidden: the definition becomes one that is for linking only.
    """

    name: str
    kind: str
    type_id: int
    weak: bool
    offset: int = 0
    size: int = 0
    map: MapDef | None = None
    hidden: bool = False


class Export(NamedTuple):
    """A name that other objects may refer to: a function, program, variable or map that is not static.

    :param weak: it gives way to another object's definition.
    :param hidden: it is for linking only: a function the verifier treats as static.
    """

    name: str
    weak: bool = False
    hidden: bool = False


class StructOps(NamedTuple):
    """A ``.struct_ops`` variable: a kernel struct whose function pointers are programs.

    :param map: name of its BPF_MAP_TYPE_STRUCT_OPS map, the variable's name.
    :param type_name: the kernel's struct, such as ``tcp_congestion_ops``.
    :param type_id: the struct in the object's BTF.
    :param data: its bytes as compiled.
    :param members: (offset in bytes, program name) for each function pointer that is set.
    :param section: ``.struct_ops`` or ``.struct_ops.link``, with a ``?`` before it when it is optional.
    """

    map: str
    type_name: str
    type_id: int
    data: bytes
    members: tuple[tuple[int, str], ...]
    section: str

    @property
    def link(self) -> bool:
        """Whether it is attached by a link."""
        return self.section.endswith(".link")


class SectionDef(NamedTuple):
    """A section of the file that an object was read from, as its ELF header describes it.

    :param contents: its bytes when the rest of the object does not have them: the license, definitions of
        legacy maps, what no loader reads. None for code, ``.maps``, data and struct_ops.
    :param variables: what lies in a section with contents here.
    """

    name: str
    type: int
    flags: int
    align: int
    entry_size: int = 0
    contents: bytes | None = None
    variables: tuple[Variable, ...] = ()


class Object(NamedTuple):
    """Everything of one loadable object. Orders are as the source has them.

    ``btf`` is as compiled, with every variable placed in its section: what loading it takes besides is
    ``btf_fixup.kernel_btf``'s. ``sections`` is empty for an object that was not read from a file.
    ``order`` is the byte order that it was compiled for.
    """

    name: str
    license: str
    maps: tuple[MapDef, ...]
    programs: tuple[ProgramDef, ...]
    functions: tuple[Function, ...] = ()
    btf: bytes = b""
    version: int = 0
    metadata: bytes = b""  # a script's formats and map types, as JSON (lang.script)
    variables: tuple[Variable, ...] = ()
    externs: tuple[Extern, ...] = ()
    struct_ops: tuple[StructOps, ...] = ()
    exports: tuple[Export, ...] = ()
    sections: tuple[SectionDef, ...] = ()
    order: ByteOrder = "little"
