"""The driver: walks every path of a program over abstract states.

Depth first, one state per path; where paths meet, what was seen already is not looked at again.
Source: the kernel's ``do_check``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from tracebee import uapi
from tracebee.isa import insn as isa
from tracebee.isa.disasm import format_insn
from tracebee.vm.verifier import calls, comparison, memory, prune
from tracebee.vm.verifier import kfuncs as kernel_functions
from tracebee.vm.verifier.alu import alu
from tracebee.vm.verifier.code import Code, check_encoding
from tracebee.vm.verifier.contexts import Context, contexts
from tracebee.vm.verifier.flow import Flow
from tracebee.vm.verifier.liveness import ALL_SLOTS, analyse
from tracebee.vm.verifier.prune import Checkpoint
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    ANYTHING,
    AT_END,
    BEYOND_END,
    BTF,
    CTX,
    FUNC,
    MAP_KEY,
    MAP_PTR,
    MAP_VALUE,
    MEM,
    NOTHING,
    NULL,
    PACKET,
    PACKET_END,
    PACKET_META,
    SCALAR,
    SOCK,
    STACK,
    UNINIT,
    Frame,
    Reg,
    State,
    known,
    pointer,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tracebee.isa.insn import Insn
    from tracebee.obj.model import MapDef
    from tracebee.vm.verifier.kernel_types import KernelTypes

MAX_FRAMES = 8
MAX_PACKET_OFFSET = 0xFFFF
_SIZES = {isa.BPF_W: 4, isa.BPF_H: 2, isa.BPF_B: 1, isa.BPF_DW: 8}
_GPL = frozenset(
    ("GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL")
)
_NOT_ATOMIC = (CTX, PACKET, PACKET_META, SOCK, BTF)


class Path(NamedTuple):
    """A step of the path that led to a refusal: the slot, and how its branch went (None: no branch)."""

    slot: int
    taken: bool | None


class Settings(NamedTuple):
    """What a program is verified for; see ``verify.verify``."""

    program_type: int
    attach_type: int = 0
    license: str = "GPL"
    sleepable: bool = False
    privileged: bool = True
    strict_alignment: bool = False
    limit: int = 1_000_000
    cpus: int = 8192
    machine: str = "x86_64"


class Verifier:
    """The state of one verification."""

    def __init__(
        self,
        code: Code,
        settings: Settings,
        kernel_types: Callable[[], KernelTypes],
        locks: Mapping[str, int] | None = None,
    ) -> None:
        self.locks = dict(locks or {})
        self.code = code
        self.settings = settings
        self.program_type = settings.program_type
        self.privileged = settings.privileged
        self.uninitialised_stack = settings.privileged
        self.strict_alignment = settings.strict_alignment
        self.sleepable = settings.sleepable
        self.gpl = settings.license in _GPL
        self.cpus = settings.cpus
        self.order = sys.byteorder
        found = contexts(settings.machine).get(settings.program_type)
        if found is None:
            raise RefusalError(f"program type {settings.program_type} is not supported by this verifier")
        self.context: Context = found
        check_encoding(code.slots, privileged=settings.privileged)
        self.flow = Flow(code, privileged=settings.privileged)
        self.needs = analyse(self.flow)
        self.loop_points = self._find_loops()
        self.flow.joins |= self.loop_points
        self.kernel_types = kernel_types()
        self.constant_maps = [use.map for use in code.maps.values() if use.map.frozen]
        self.explored: dict[int, list[Checkpoint]] = {}
        self.pending: list[tuple[State, int, list[Path]]] = []
        self.state = State()
        self.path: list[Path] = []
        self.slot = 0
        self.processed = 0
        self.states = 0
        self.depths: dict[int, int] = {}
        self.calls_of: dict[int, set[int]] = {}
        self._ids = 0
        self._kinds_at: dict[int, str] = {}
        self._last_insns = self._last_jumps = self._jumps = 0
        self._verified_globals: set[int] = set()

    # --- small services -----------------------------------------------------------------------------

    def new_id(self) -> int:
        """A fresh identity."""
        self._ids += 1
        return self._ids

    def acquire(self) -> int:
        """Open a reference."""
        number = self.new_id()
        self.state.refs[number] = self.slot
        return number

    def release(self, ref: int) -> None:
        """Close a reference: nobody may use what it held any more."""
        if self.state.refs.pop(ref, None) is None:
            raise RefusalError("a reference is released that was not acquired")
        gone = ANYTHING if self.privileged else NOTHING
        self.state.replace_all(lambda reg: reg.ref == ref, lambda _: gone)

    def forget_packet(self) -> None:
        """The packet moved: no address into it holds any more."""
        kinds = (PACKET, PACKET_META, PACKET_END)
        self.state.replace_all(lambda reg: reg.kind in kinds, lambda _: ANYTHING)

    def unreadable(self, number: int) -> RefusalError:
        """The error that a register was never written."""
        hint = "calls leave r1 to r5 unreadable" if number in range(1, 6) else "it was not set on this path"
        return RefusalError(f"R{number} !read_ok", hint=hint, register=number)

    def read(self, number: int) -> Reg:
        """A register that must be readable."""
        reg = self.state.regs[number]
        if reg.kind == UNINIT:
            raise self.unreadable(number)
        return reg

    def mark_read(self, depth: int, mask: int) -> None:
        """Stack slots of a frame are read: the checkpoints above must know unless written since."""
        state = self.state
        mask &= ~state.written[depth]
        node = state.parent
        while mask and isinstance(node, Checkpoint) and depth < len(node.reads):
            mask &= ~node.reads[depth]
            node.reads[depth] |= mask
            mask &= ~node.written[depth]
            node = node.parent

    def mark_written(self, depth: int, mask: int) -> None:
        """Stack slots of a frame are overwritten whole."""
        self.state.written[depth] |= mask

    def grow_stack(self, depth: int, size: int) -> None:
        """A function uses ``size`` bytes of its frame."""
        start = self.state.frames[depth].start
        if size > self.depths.get(start, 0):
            self.depths[start] = size

    def lock_offset(self, m: MapDef) -> int | None:
        """Where a map's values hold a spin lock, None when they do not."""
        return self.locks.get(m.name)

    def check_special_fields(self, m: MapDef, reg: Reg, offset: int, size: int) -> None:
        """Refuse touching a value's spin lock as plain memory."""
        lock = self.lock_offset(m)
        if lock is None:
            return
        low, high = reg.smin + reg.off + offset, reg.smax + reg.off + offset + size
        if low < lock + 4 and lock < high:
            raise RefusalError("bpf_spin_lock cannot be accessed directly by load/store")

    def take_lock(self, number: int, reg: Reg, *, take: bool) -> None:
        """``bpf_spin_lock`` and ``bpf_spin_unlock``."""
        if reg.kind != MAP_VALUE or reg.null or reg.map is None:
            raise RefusalError(
                f"R{number} doesn't point to a map value with a bpf_spin_lock", register=number
            )
        lock = self.lock_offset(reg.map)
        if lock is None:
            raise RefusalError(f"map '{reg.map.name}' has no valid bpf_spin_lock", register=number)
        if not reg.is_const or reg.off + reg.smin != lock:
            raise RefusalError(f"off {reg.off} doesn't point to 'struct bpf_spin_lock'", register=number)
        which = (reg.map.name, reg.id)
        if take:
            if self.state.lock is not None:
                raise RefusalError("Locking two bpf_spin_locks are not allowed")
            self.state.lock = which
        elif self.state.lock != which:
            raise RefusalError(
                "bpf_spin_unlock without taking a lock"
                if self.state.lock is None
                else "bpf_spin_unlock of different lock"
            )
        else:
            self.state.lock = None

    # --- the walk -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Walk all paths of the program and of its global functions.

        :raises RefusalError: ``slot`` and ``path`` say where.
        """
        for start, sub in self.flow.subprograms.items():
            if start and sub.is_global:
                self._walk_function(start)
        self._walk_function(0)
        self._check_stack_depth()

    def _walk_function(self, start: int) -> None:
        self.explored = {}
        self.pending = []
        self.state = self._entry(start)
        self.path = []
        self.slot = start
        alive = True
        while True:
            if not alive:
                if not self.pending:
                    return
                self.state, self.slot, self.path = self.pending.pop()
                alive = True
            alive = self._step()
            if not alive:
                self._path_ends(self.state.parent)

    def _entry(self, start: int) -> State:
        state = State()
        frame = Frame(start, -1)
        frame.regs[10] = _stack_pointer(0)
        if start == 0:
            frame.regs[1] = pointer(CTX)
        else:
            # A global function is verified for any numbers.
            for number in range(1, 6):
                frame.regs[number] = ANYTHING
        state.frames.append(frame)
        state.written.append(0)
        return state

    @staticmethod
    def _path_ends(node: object) -> None:
        while isinstance(node, Checkpoint):
            node.branches -= 1
            if node.branches:
                return
            node = node.parent

    def fork(self, state: State, slot: int, step: Path | None = None) -> None:
        """Look at another path later, from ``state`` at ``slot``."""
        if len(self.pending) > 8192:
            raise RefusalError("The sequence of jumps is too complex")
        if isinstance(state.parent, Checkpoint):
            state.parent.branches += 1
        self.pending.append((state, slot, [*self.path, step] if step else self.path[:]))

    def _step(self) -> bool:
        """One instruction; False when the path ends here."""
        slot = self.slot
        insn = self.code.slots[slot]
        assert insn is not None
        self.processed += 1
        if self.processed > self.settings.limit:
            raise RefusalError(
                f"BPF program is too large. Processed {self.processed} insn",
                hint="a loop may not end for some value, or too many paths differ in what matters",
            )
        if slot in self.flow.joins and self._seen(slot):
            return False
        klass = insn.opcode & 7
        if klass in (isa.BPF_ALU, isa.BPF_ALU64):
            alu(self, insn)
        elif klass == isa.BPF_LDX:
            self._load(insn)
        elif klass == isa.BPF_STX and insn.opcode & 0xE0 == isa.BPF_ATOMIC:
            self._atomic(insn)
        elif klass in (isa.BPF_STX, isa.BPF_ST):
            self._store(insn)
        elif klass == isa.BPF_LD:
            (self._load_constant if insn.is_wide else self._load_packet)(insn)
        else:
            return self._jump(insn)
        self.slot = slot + insn.slots
        return True

    def _seen(self, slot: int) -> bool:
        """Whether this state was covered before; else remember it now and then."""
        state = self.state
        found = self.explored.setdefault(slot, [])
        looping = slot in self.loop_points
        jumps, insns = self._jumps - self._last_jumps, self.processed - self._last_insns
        remember = looping or jumps > 40 or (jumps >= 2 and insns >= 8)
        for node in list(found):
            if node.branches > 0:
                if looping and prune.widened(node, state):
                    self._mark_incomplete(state.parent, node)
                    return True
                if not looping and prune.identical(node, state):
                    raise RefusalError(
                        f"infinite loop detected at insn {slot}",
                        hint="nothing changes from one round to the next",
                    )
                # Rounds of a loop differ: remembering each would help little.
                if not looping and jumps < 20 and insns < 100:
                    remember = False
            elif prune.covered(node, state, self.needs, slot):
                node.hits += 1
                self._inherit(node)
                return True
            if remember:
                node.misses += 1
            patience = 64 if looping and node.branches > 0 else 3
            if node.misses > node.hits * patience + patience:
                found.remove(node)
        if remember:
            self._remember(slot, found)
        return False

    def _inherit(self, node: Checkpoint) -> None:
        """What was read behind a checkpoint will be read on this path too."""
        for depth, reads in enumerate(node.reads):
            self.mark_read(depth, reads if node.complete else ALL_SLOTS)
        if not node.complete:
            self._mark_incomplete(self.state.parent, None)

    def _remember(self, slot: int, found: list[Checkpoint]) -> None:
        state = self.state
        node = Checkpoint(slot, state.copy(), state.parent if isinstance(state.parent, Checkpoint) else None)
        found.append(node)
        self.states += 1
        state.parent = node
        state.written = [0] * len(state.frames)
        self._last_jumps, self._last_insns = self._jumps, self.processed

    def _is_ancestor(self, node: Checkpoint) -> bool:
        above = self.state.parent
        while isinstance(above, Checkpoint):
            if above is node:
                return True
            above = above.parent
        return False

    @staticmethod
    def _mark_incomplete(node: object, until: Checkpoint | None) -> None:
        while isinstance(node, Checkpoint):
            node.complete = False
            if node is until:
                return
            node = node.parent

    def widen(self, slot: int) -> None:
        """Forget numbers that changed since the last round of the loop at ``slot``."""
        previous = next(
            (n for n in reversed(self.explored.get(slot, [])) if n.branches and self._is_ancestor(n)), None
        )
        if previous is None or len(previous.state.frames) != len(self.state.frames):
            return
        for old, new in zip(previous.state.frames, self.state.frames, strict=True):
            for number in range(10):
                new.regs[number] = _widened(old.regs[number], new.regs[number])
            for index, (saved, kinds) in list(new.stack.items()):
                before, _ = old.slot(index)
                if saved is not None and before is not None:
                    new.stack[index] = (_widened(before, saved), kinds)

    # --- loads and stores ---------------------------------------------------------------------------

    def _load(self, insn: Insn) -> None:
        size = _SIZES[insn.opcode & 0x18]
        base = self.read(insn.src)
        self._one_kind(base)
        found = memory.access(self, insn.src, base, insn.off, size)
        signed = insn.opcode & 0xE0 == isa.BPF_MEMSX
        if found.kind == SCALAR and size < 8:
            found = found.copy()
            if signed:
                found.id = 0
                found.sign_extend(size)
            else:
                if found.umax >> size * 8:
                    found.id = 0
                found.truncate(size)
        self.state.regs[insn.dst] = found

    def _one_kind(self, base: Reg) -> None:
        """An instruction that reads the context must not read other memory on another path."""
        kind = base.kind if base.kind in (CTX, SOCK, BTF) else "plain"
        before = self._kinds_at.setdefault(self.slot, kind)
        if before != kind and CTX in (before, kind):
            raise RefusalError("same insn cannot be used with different pointers")

    def _store(self, insn: Insn) -> None:
        size = _SIZES[insn.opcode & 0x18]
        immediate = insn.opcode & 7 == isa.BPF_ST
        value = known(insn.imm) if immediate else self.read(insn.src)
        base = self.read(insn.dst)
        self._one_kind(base)
        if immediate and base.kind == CTX and not self.context.writable:
            raise RefusalError(f"BPF_ST stores into R{insn.dst} ctx is not allowed", register=insn.dst)
        memory.access(self, insn.dst, base, insn.off, size, value=value, write=True)

    def _atomic(self, insn: Insn) -> None:
        size = _SIZES[insn.opcode & 0x18]
        if insn.imm == isa.BPF_LOAD_ACQ:
            self._acquire_release(insn, insn.src)
            self._load(insn)
            return
        if insn.imm == isa.BPF_STORE_REL:
            self._acquire_release(insn, insn.dst)
            self._store(insn)
            return
        value = self.read(insn.src)
        base = self.read(insn.dst)
        if insn.imm == isa.BPF_CMPXCHG:
            expected = self.read(0)
            if expected.is_pointer and not self.privileged:
                raise RefusalError("R0 leaks addr into mem", register=0)
        if value.is_pointer and not self.privileged:
            raise RefusalError(f"R{insn.src} leaks addr into mem", register=insn.src)
        if base.kind in _NOT_ATOMIC:
            raise RefusalError(
                f"BPF_ATOMIC stores into R{insn.dst} {base.kind} is not allowed", register=insn.dst
            )
        fetches = insn.imm & isa.BPF_FETCH
        found = memory.access(self, insn.dst, base, insn.off, size, strict=True)
        memory.access(self, insn.dst, base, insn.off, size, write=True, strict=True)
        if fetches:
            if found.kind == SCALAR:
                found = found.copy()
                found.id = 0
                if size < 8:
                    found.truncate(size)
            self.state.regs[0 if insn.imm == isa.BPF_CMPXCHG else insn.src] = found

    def _acquire_release(self, insn: Insn, number: int) -> None:
        base = self.read(number)
        if base.kind in _NOT_ATOMIC:
            what = "loads from" if insn.imm == isa.BPF_LOAD_ACQ else "stores into"
            raise RefusalError(f"BPF_ATOMIC {what} R{number} {base.kind} is not allowed", register=number)

    def _load_constant(self, insn: Insn) -> None:
        use = self.code.maps.get(self.slot)
        regs = self.state.regs
        if insn.src in (isa.BPF_PSEUDO_MAP_FD, isa.BPF_PSEUDO_MAP_IDX):
            if use is None:
                raise RefusalError(f"fd {insn.imm} is not pointing to valid bpf_map")
            found = pointer(MAP_PTR)
            found.map = use.map
        elif insn.src in (isa.BPF_PSEUDO_MAP_VALUE, isa.BPF_PSEUDO_MAP_IDX_VALUE):
            if use is None or use.offset is None:
                raise RefusalError(f"fd {insn.imm} is not pointing to valid bpf_map")
            if use.map.type != uapi.BPF_MAP_TYPE_ARRAY or use.map.max_entries > 1:
                raise RefusalError("direct value access needs an array with one element")
            if not 0 <= use.offset < use.map.value_size:
                raise RefusalError(f"invalid access to map value pointer, value_size={use.map.value_size}")
            found = pointer(MAP_VALUE)
            found.map = use.map
            found.off = use.offset
            if self.lock_offset(use.map) is not None:
                found.id = self.new_id()
        elif insn.src == isa.BPF_PSEUDO_FUNC:
            found = pointer(FUNC)
            found.btf = self.flow.callees[self.slot]
        elif insn.src == 0:
            found = known(insn.imm)
            if self.slot in self.code.symbols:
                found = pointer(MEM)
                found.flags = frozenset(("rdonly",))
        else:
            raise RefusalError(f"wide loads of kind {insn.src} are not supported")
        regs[insn.dst] = found

    def _load_packet(self, insn: Insn) -> None:
        if not self.context.load_bytes:
            raise RefusalError("BPF_LD_[ABS|IND] instructions not allowed for this program type")
        context = self.read(6)
        if self.state.refs or self.state.lock is not None:
            raise RefusalError("BPF_LD_[ABS|IND] cannot be mixed with held references or locks")
        if context.kind != CTX:
            raise RefusalError("at the time of BPF_LD_ABS|IND R6 != pointer to skb", register=6)
        memory.plain_context(6, context)
        if insn.opcode & 0xE0 == isa.BPF_IND:
            self.read(insn.src)
        regs = self.state.regs
        for number in range(6):
            regs[number] = NOTHING
        regs[0] = ANYTHING

    # --- jumps --------------------------------------------------------------------------------------

    def _jump(self, insn: Insn) -> bool:
        op = insn.opcode & 0xF0
        self._jumps += 1
        slot = self.slot
        if op == isa.BPF_EXIT:
            return self._exit()
        if op == isa.BPF_JA:
            distance = insn.imm if insn.opcode & 7 == isa.BPF_JMP32 else insn.off
            self.slot = slot + 1 + distance
            return True
        if op == isa.BPF_CALL:
            return self._call(insn)
        if op == isa.BPF_JCOND:
            other = self.state.copy()
            self.fork(other, slot + 1)
            self.slot = slot + 1 + insn.off
            return True
        return self._branch(insn, op)

    def _branch(self, insn: Insn, op: int) -> bool:
        state, slot = self.state, self.slot
        bits = 64 if insn.opcode & 7 == isa.BPF_JMP else 32
        by_register = bool(insn.opcode & isa.BPF_X)
        right = self.read(insn.src) if by_register else known(insn.imm)
        left = self.read(insn.dst)
        packets = by_register and _packet_pair(left, right)
        if not self.privileged and not packets:
            self._refuse_leak(insn, op, left, right, by_register=by_register)
        target = slot + 1 + insn.off
        taken = self._outcome(op, left, right, bits)
        if taken is not None:
            if self.privileged or taken:
                self.path.append(Path(slot, taken))
            self.slot = target if taken else slot + 1
            return True
        other = state.copy()
        null_check = left.null and not by_register and insn.imm == 0 and bits == 64
        if left.kind == SCALAR and right.kind == SCALAR:
            self._refine(other, insn, op, left, right, bits)
            self._refine(state, insn, comparison.REVERSE[op], left, right, bits)
        elif null_check and op in (isa.BPF_JEQ, isa.BPF_JNE):
            self._decide_null(other, left, null=op == isa.BPF_JEQ)
            self._decide_null(state, left, null=op == isa.BPF_JNE)
        elif packets and bits == 64:
            self._compare_packet(state, other, insn, op, left, right)
        elif op in (isa.BPF_JEQ, isa.BPF_JNE) and by_register and bits == 64 and left.null != right.null:
            # Equal to an address that is not NULL: not NULL either.
            maybe, sure = (left, right) if left.null else (right, left)
            if sure.is_pointer and not sure.null and sure.kind != BTF and maybe.kind != BTF:
                self._decide_null(other if op == isa.BPF_JEQ else state, maybe, null=False)
        self.fork(other, target, Path(slot, taken=True))
        self.path.append(Path(slot, taken=False))
        self.slot = slot + 1
        return True

    def _refuse_leak(self, insn: Insn, op: int, left: Reg, right: Reg, *, by_register: bool) -> None:
        if by_register and right.is_pointer:
            raise RefusalError(f"R{insn.src} pointer comparison prohibited", register=insn.src)
        null_check = left.null and op in (isa.BPF_JEQ, isa.BPF_JNE) and not by_register and insn.imm == 0
        if left.is_pointer and not null_check:
            raise RefusalError(f"R{insn.dst} pointer comparison prohibited", register=insn.dst)

    @staticmethod
    def _outcome(op: int, left: Reg, right: Reg, bits: int) -> bool | None:
        if left.kind == SCALAR and right.kind == SCALAR:
            return comparison.outcome(op, left, right, bits)
        if left.kind == PACKET and right.kind == PACKET_END:
            return _beyond(op, left)
        if left.kind == PACKET_END and right.kind == PACKET:
            return _beyond(comparison.FLIP[op], right) if op in comparison.FLIP else None
        if left.is_pointer and right.is_zero and bits == 64 and op in (isa.BPF_JEQ, isa.BPF_JNE):
            if left.null or left.kind in (BTF, PACKET_END):
                return None
            return op == isa.BPF_JNE
        return None

    def _refine(self, state: State, insn: Insn, op: int, left: Reg, right: Reg, bits: int) -> None:
        a, b = left.copy(), right.copy()
        if insn.opcode & isa.BPF_X and insn.src == insn.dst:
            b = a
        comparison.refine(op, a, b, bits)
        a.sync()
        b.sync()
        regs = state.regs
        regs[insn.dst] = a
        if left.id:
            _spread(state, left.id, a)
        if insn.opcode & isa.BPF_X and insn.src != insn.dst:
            regs[insn.src] = b
            if right.id:
                _spread(state, right.id, b)

    def _decide_null(self, state: State, reg: Reg, *, null: bool) -> None:
        which = reg.id
        if null:
            if reg.ref:
                state.refs.pop(reg.ref, None)
            state.replace_all(lambda r: r.null and r.id == which, lambda _: NULL)
            return

        def present(r: Reg) -> Reg:
            new = r.copy()
            new.null = False
            if not (new.map is not None and self.lock_offset(new.map) is not None):
                new.id = 0
            if new.kind == MAP_VALUE and new.map is not None and new.map.type == uapi.BPF_MAP_TYPE_XSKMAP:
                new.kind = SOCK
            return new

        state.replace_all(lambda r: r.null and r.id == which, present)

    def _compare_packet(self, state: State, other: State, insn: Insn, op: int, left: Reg, right: Reg) -> None:
        """``data + n > data_end`` and its kin tell how many bytes there are."""
        if op not in (isa.BPF_JGT, isa.BPF_JLT, isa.BPF_JGE, isa.BPF_JLE):
            return
        number = insn.dst
        if (
            right.kind in (PACKET, PACKET_META)
            and left.kind in (PACKET_END, PACKET)
            and (left.kind == PACKET_END or right.kind == PACKET_META)
        ):
            left, right, op, number = right, left, comparison.FLIP[op], insn.src
        if op in (isa.BPF_JGT, isa.BPF_JGE):
            inside, outside, open_range = state, other, op == isa.BPF_JGE
        else:
            inside, outside, open_range = other, state, op == isa.BPF_JLT
        _found_packet(inside, left, open_range=open_range)
        if left.kind == PACKET:
            reg = outside.regs[number].copy()
            reg.size = AT_END if open_range else BEYOND_END
            outside.regs[number] = reg

    # --- calls and returns --------------------------------------------------------------------------

    def _call(self, insn: Insn) -> bool:
        slot = self.slot
        if insn.src == isa.BPF_PSEUDO_CALL:
            return self._call_function(self.flow.callees[slot])
        if insn.src == isa.BPF_PSEUDO_KFUNC_CALL:
            if self.state.lock is not None:
                raise RefusalError("function calls are not allowed while holding a lock")
            kernel_functions.call(self, self.code.kfuncs.get(slot, ""))
            self.slot = slot + 1
            return True
        if slot in self.loop_points:
            self.widen(slot)
        arguments = self.state.regs[:]
        made = calls.call(self, insn.imm)
        name = made.helper.name
        if made.function >= 0:
            self._callback(name, made.function, arguments)
        if name == "tail_call" and self.state.refs:
            raise RefusalError("tail_call would lead to reference leak")
        if name == "tail_call":
            self.state.regs[0] = ANYTHING
        self.slot = slot + 1
        return True

    def _call_function(self, target: int) -> bool:
        state = self.state
        self.calls_of.setdefault(state.frame.start, set()).add(target)
        if state.lock is not None and self.flow.subprograms[target].is_global:
            raise RefusalError("global function calls are not allowed while holding a lock")
        if self.flow.subprograms[target].is_global:
            for number in range(1, 6):
                if state.regs[number].is_pointer and number <= 1:
                    raise RefusalError("pointer arguments of global functions need BTF", register=number)
                state.regs[number] = NOTHING
            state.regs[0] = unknown()
            self.slot += 1
            return True
        self._push(target, self.slot, "")
        caller = state.frames[-2]
        for number in range(1, 6):
            state.regs[number] = caller.regs[number]
            caller.regs[number] = NOTHING
        caller.regs[0] = NOTHING
        self.slot = target
        return True

    def _push(self, target: int, back: int, callback: str) -> Frame:
        state = self.state
        if len(state.frames) >= MAX_FRAMES:
            raise RefusalError(f"the call stack of {len(state.frames)} frames is too deep")
        frame = Frame(target, back, callback)
        frame.regs[10] = _stack_pointer(len(state.frames))
        state.frames.append(frame)
        state.written.append(0)
        return frame

    def _callback(self, name: str, target: int, arguments: list[Reg]) -> None:
        """Also look at what happens when the helper calls the function back."""
        resume = self.state
        self.calls_of.setdefault(resume.frame.start, set()).add(target)
        self.state = resume.copy()
        # The call is made again after each round: the caller's arguments must still be there.
        self.state.frame.regs[1:6] = arguments[1:6]
        frame = self._push(target, self.slot, name)
        frame.regs[1:6] = _callback_arguments(self, name, arguments)
        if isinstance(self.state.parent, Checkpoint):
            self.state.parent.branches += 1
        self.pending.append((self.state, target, self.path[:]))
        self.state = resume

    def _exit(self) -> bool:
        state = self.state
        result = self.read(0)
        if len(state.frames) == 1:
            return self._end(result)
        frame = state.frames.pop()
        state.written.pop()
        if result.kind == STACK and result.frame >= len(state.frames):
            raise RefusalError("cannot return stack pointer to the caller", register=0)
        if frame.callback:
            if result.kind != SCALAR or result.smin < 0 or result.smax > 1:
                raise RefusalError(
                    "At callback return the register R0 should have been in [0, 1]",
                    hint="return 0 to go on, 1 to stop",
                    register=0,
                )
            self.slot = frame.back
            return True
        state.regs[0] = result
        self.slot = frame.back + 1
        return True

    def _end(self, result: Reg) -> bool:
        state = self.state
        if state.lock is not None:
            raise RefusalError(
                "BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region"
            )
        if state.refs:
            ref, where = next(iter(state.refs.items()))
            raise RefusalError(
                f"Unreleased reference id={ref} alloc_insn={where}",
                hint="every path must submit or discard (release) what it reserved",
            )
        if result.is_pointer and not self.privileged:
            raise RefusalError("R0 leaks addr as return value", register=0)
        low, high = _result_range(self.settings)
        if low is not None and state.frame.start == 0:
            if result.kind != SCALAR:
                raise RefusalError("At program exit the register R0 is not a known value", register=0)
            if result.smin < low or result.smax > high:
                raise RefusalError(
                    f"At program exit the register R0 has {result.describe()} "
                    f"should have been in [{low}, {high}]",
                    register=0,
                )
        return False

    def _check_stack_depth(self) -> None:
        """The frames of every chain of calls together must fit."""

        def deepest(start: int, above: int, chain: tuple[int, ...]) -> None:
            size = -(-max(self.depths.get(start, 0), 1) // 32) * 32
            if above + size > isa.MAX_STACK:
                raise RefusalError(
                    f"combined stack size of {len(chain) + 1} calls is {above + size}. Too large",
                    hint=f"all frames of a chain of calls share {isa.MAX_STACK} bytes",
                )
            if len(chain) >= MAX_FRAMES:
                raise RefusalError(f"the call stack of {len(chain) + 1} frames is too deep")
            for callee in self.calls_of.get(start, ()):
                if callee in (*chain, start):
                    raise RefusalError("recursive call")
                deepest(callee, above + size, (*chain, start))

        deepest(0, 0, ())
        for start, sub in self.flow.subprograms.items():
            if sub.is_global and start:
                deepest(start, 0, ())

    def _find_loops(self) -> frozenset[int]:
        """Slots of the calls that run callbacks and iterators: their rounds are widened."""
        found = set()
        for slot, insn in enumerate(self.code.slots):
            if insn is None or insn.opcode & 0xF7 != isa.BPF_JMP | isa.BPF_CALL:
                continue
            if (insn.src == 0 and insn.imm in calls.CALLBACK_HELPERS) or (
                insn.src == isa.BPF_PSEUDO_KFUNC_CALL and self.code.kfuncs.get(slot, "").endswith("_next")
            ):
                found.add(slot)
        return frozenset(found)

    def text(self, slot: int) -> str:
        """An instruction as text."""
        insn = self.code.slots[slot]
        return "" if insn is None else format_insn(insn)


def _stack_pointer(depth: int) -> Reg:
    reg = pointer(STACK)
    reg.frame = depth
    return reg


def _widened(old: Reg, new: Reg) -> Reg:
    if old.kind == SCALAR and new.kind == SCALAR and not new.within(old):
        return ANYTHING
    return new


def _spread(state: State, which: int, source: Reg) -> None:
    """What was learnt of a number holds for its copies."""

    def learnt(reg: Reg) -> Reg:
        new = reg.copy()
        new.copy_number(source)
        return new

    state.replace_all(lambda reg: reg.id == which and reg.kind == SCALAR and reg is not source, learnt)


def _packet_pair(a: Reg, b: Reg) -> bool:
    kinds = (a.kind, b.kind)
    return kinds in ((PACKET, PACKET_END), (PACKET_END, PACKET)) or (PACKET_META in kinds and PACKET in kinds)


def _beyond(op: int, packet: Reg) -> bool | None:
    """What a comparison of a packet address with the packet's end gives, after an earlier one."""
    if packet.size >= 0:
        return None
    if op in (isa.BPF_JLE, isa.BPF_JGT):
        # pkt <= end, pkt > end
        if packet.size == BEYOND_END:
            return op == isa.BPF_JGT
        return None
    if op in (isa.BPF_JLT, isa.BPF_JGE):
        # pkt < end, pkt >= end: at or beyond it in both cases
        return op == isa.BPF_JGE
    return None


def _found_packet(state: State, reg: Reg, *, open_range: bool) -> None:
    if reg.off < 0 or (reg.off == 0 and open_range):
        return
    if reg.umax > MAX_PACKET_OFFSET or reg.umax + reg.off > MAX_PACKET_OFFSET:
        return
    size = reg.off + open_range

    def longer(other: Reg) -> Reg:
        if other.size >= size:
            return other
        new = other.copy()
        new.size = size
        return new

    state.replace_all(lambda r: r.kind == reg.kind and r.id == reg.id, longer)


def _result_range(settings: Settings) -> tuple[int | None, int]:
    """The values a program of a type may return: (low, high), low None for any."""
    if settings.program_type == uapi.BPF_PROG_TYPE_TRACING:
        if settings.attach_type in (uapi.BPF_TRACE_FENTRY, uapi.BPF_TRACE_FEXIT):
            return 0, 0
        if settings.attach_type == uapi.BPF_TRACE_ITER:
            return 0, 1
    if settings.program_type == uapi.BPF_PROG_TYPE_CGROUP_SKB:
        return 0, 3 if settings.attach_type == uapi.BPF_CGROUP_INET_EGRESS else 1
    return None, 0


def _callback_arguments(v: Verifier, name: str, arguments: list[Reg]) -> list[Reg]:
    """r1 to r5 of a function that a helper calls back."""
    if name == "loop":
        return [unknown(), arguments[3], NOTHING, NOTHING, NOTHING]
    if name == "for_each_map_elem":
        key, value = pointer(MAP_KEY), pointer(MAP_VALUE)
        key.map = value.map = arguments[1].map
        return [arguments[1], key, value, arguments[3], NOTHING]
    if name == "find_vma":
        vma = pointer(BTF)
        vma.btf = v.kernel_types.named("vm_area_struct")
        vma.flags = frozenset(("trusted",))
        return [arguments[1], vma, arguments[4], NOTHING, NOTHING]
    raise RefusalError(f"callbacks of {name} are not supported")
