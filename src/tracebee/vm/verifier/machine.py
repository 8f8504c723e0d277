"""The driver: walks every path of a program over abstract states.

Depth first, one state per path; where paths meet, what was seen already is not looked at again.
Source: the kernel's ``do_check``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tracebee import uapi
from tracebee.isa import insn as isa
from tracebee.isa.disasm import format_insn
from tracebee.vm.verifier import calls, functions, memory, prune
from tracebee.vm.verifier import kfuncs as kernel_functions
from tracebee.vm.verifier.alu import alu
from tracebee.vm.verifier.branches import branch
from tracebee.vm.verifier.code import Code, check_encoding, uses_reserved
from tracebee.vm.verifier.contexts import Context, contexts
from tracebee.vm.verifier.flow import Flow
from tracebee.vm.verifier.liveness import ALL_SLOTS, Liveness
from tracebee.vm.verifier.paths import Path, Settings
from tracebee.vm.verifier.prune import Checkpoint
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    ANYTHING,
    BTF,
    CTX,
    FUNC,
    MAP_PTR,
    MAP_VALUE,
    MEM,
    NOTHING,
    PACKET,
    PACKET_END,
    PACKET_META,
    SCALAR,
    SOCK,
    UNINIT,
    Frame,
    Reg,
    State,
    known,
    pointer,
    stack_pointer,
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
# Program types that may not even name a map whose values have a spin lock.
_LOCKLESS = frozenset(
    (
        uapi.BPF_PROG_TYPE_SOCKET_FILTER,
        uapi.BPF_PROG_TYPE_KPROBE,
        uapi.BPF_PROG_TYPE_TRACEPOINT,
        uapi.BPF_PROG_TYPE_PERF_EVENT,
        uapi.BPF_PROG_TYPE_RAW_TRACEPOINT,
        uapi.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE,
    )
)
_NOT_ATOMIC = (CTX, PACKET, PACKET_META, SOCK, BTF)


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
        self.uninitialised_stack = settings.privileged and settings.uninitialised_stack
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
        self.liveness = Liveness(self.flow, result_checked=functions.result_range(settings)[0] is not None)
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
        self._checked: set[int] = set()  # slots whose encoding was looked at
        self.globals: set[int] = set()  # functions to look at by themselves

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
        self._walk_function(0)
        done: set[int] = set()
        while self.globals - done:
            start = min(self.globals - done)
            done.add(start)
            self._walk_function(start)
        functions.check_stack_depth(self)

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
        frame.regs[10] = stack_pointer(0)
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
        if slot not in self._checked:
            if uses_reserved(insn):
                raise RefusalError(f"reserved fields are used: {format_insn(insn)}")
            self._checked.add(slot)
        if slot in self.loop_points:
            self._widen(slot)
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
                if looping and prune.widened(node, state, self.liveness.needs, slot):
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
            elif prune.covered(node, state, self.liveness.needs, slot):
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

    def _widen(self, slot: int) -> None:
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
            changes = signed or found.umax >> size * 8
            found = found.unlinked() if changes else found.copy()
            if signed:
                found.sign_extend(size)
            else:
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
                found = found.unlinked()
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
            self._refuse_locks(use.map)
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
            symbol = self.code.symbols.get(self.slot)
            missing = self.slot in self.code.weak and not self.kernel_types.exists(symbol or "")
            if symbol is not None and not missing:
                found = pointer(MEM)
                found.flags = frozenset(("rdonly",))
        else:
            raise RefusalError(f"wide loads of kind {insn.src} are not supported")
        regs[insn.dst] = found

    def _refuse_locks(self, m: MapDef) -> None:
        if self.lock_offset(m) is not None and self.program_type in _LOCKLESS:
            raise RefusalError(
                f"programs of this type cannot use bpf_spin_lock yet: map '{m.name}' has one",
                hint="use an atomic operation, or a map without a lock",
            )

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
            return functions.leave(self)
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
        return branch(self, insn, op)

    # --- calls and returns --------------------------------------------------------------------------

    def _call(self, insn: Insn) -> bool:
        slot = self.slot
        if insn.src == isa.BPF_PSEUDO_CALL:
            return functions.enter(self, self.flow.callees[slot])
        if insn.src == isa.BPF_PSEUDO_KFUNC_CALL:
            if self.state.lock is not None:
                raise RefusalError("function calls are not allowed while holding a lock")
            kernel_functions.call(self, self.code.kfuncs.get(slot, ""))
            self.slot = slot + 1
            return True
        arguments = self.state.regs[:]
        made = calls.call(self, insn.imm)
        name = made.helper.name
        if made.function >= 0:
            functions.call_back(self, name, made.function, arguments)
        if name == "tail_call" and self.state.refs:
            raise RefusalError("tail_call would lead to reference leak")
        if name == "tail_call":
            self.state.regs[0] = ANYTHING
        self.slot = slot + 1
        return True

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


def _widened(old: Reg, new: Reg) -> Reg:
    if old.kind == SCALAR and new.kind == SCALAR and not new.within(old):
        return ANYTHING
    return new
