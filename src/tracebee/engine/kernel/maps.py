"""An object's maps in the kernel: created, taken up or reused, filled, and found by name."""

from __future__ import annotations

from tracebee import uapi
from tracebee.errors import KernelError, SymbolError
from tracebee.kernel.map import Map, entries_here
from tracebee.obj.model import ARENA_DATA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.btf import Btf
    from tracebee.obj.model import MapDef

# Map types whose keys and values are descriptors or the kernel's own: it refuses types for them.
_UNTYPED = frozenset(
    uapi.MAP_TYPES[name]
    for name in (
        *("perf_event_array", "cgroup_array", "stack_trace", "array_of_maps", "hash_of_maps", "devmap"),
        *("devmap_hash", "cpumap", "xskmap", "sockmap", "sockhash", "queue", "stack", "arena"),
    )
)


class ObjectMaps:
    """The maps of an object that is being loaded, which owns them.

    :param reuse: maps to use in place of the object's own, by name.
    :param pin_root: where maps that ask to be pinned by name are found or pinned.
    """

    def __init__(self, loaded: LoadedObject, reuse: dict[str, Map], pin_root: str) -> None:
        self.loaded, self.reuse, self.pin_root = loaded, reuse, pin_root
        self._inside: dict[str, str] = {}  # data sections that are parts of another map
        self._kconfig = b""
        self._lacking: frozenset[str] = frozenset()

    def create(self, kconfig: bytes, lacking: frozenset[str]) -> None:
        """All but those of struct_ops variables, which are of the kernel's types.

        :param kconfig: the contents of ``.kconfig``; what the object says when there are none.
        :param lacking: what of the object's types the kernel cannot have.
        :raises KernelError, PrivilegeError: the kernel refuses.
        :raises UnsupportedError: a map is pinned where it is to be, and is another one.
        """
        self._kconfig, self._lacking = kconfig, lacking
        obj, loaded = self.loaded.object, self.loaded
        in_arena = [m for m in obj.maps if m.name == ARENA_DATA]
        for section in in_arena:
            from tracebee.engine.kernel.arena import arena_of

            self._inside[section.name] = arena_of(obj, section).name
        others = self.reuse.keys() | {ops.map for ops in obj.struct_ops} | self._inside.keys()
        for definition in obj.maps:
            if definition.name not in others:
                loaded.maps[definition.name] = self._map(definition)
        for section in in_arena:
            from tracebee.engine.kernel.arena import place_variables

            place_variables(loaded, section)

    def _map(self, definition: MapDef) -> Map:
        definition = definition._replace(max_entries=entries_here(definition))
        if definition.pinning is not None:
            from tracebee.engine.kernel.pinning import reuse_or_pin

            return reuse_or_pin(self.pin_root, definition, self._create, self.loaded.pins)
        created = self._create(definition)
        if definition.contents is not None:
            try:
                self._fill(created, definition)
            except BaseException:
                created.close()
                raise
        if definition.type == uapi.BPF_MAP_TYPE_ARENA and not definition.extra:
            # Programs are loaded only for an arena whose address in user space is known.
            self.loaded.memory[definition.name] = created.map_memory()
        return created

    def _create(self, definition: MapDef) -> Map:
        named = definition
        if definition.name.startswith(".") and "." not in definition.name[1:]:
            # Data sections carry the object's name before their own, as far as the kernel's 15 bytes go;
            # those with names of their own (.rodata.tables) do not.
            room = max(0, uapi.BPF_OBJ_NAME_LEN - 1 - len(definition.name))
            named = definition._replace(name=self.loaded.object.name[: min(room, 8)] + definition.name)
        typed = definition.type not in _UNTYPED and (definition.key_type_id or definition.value_type_id)
        if "datasec" in self._lacking and not definition.key_type_id:
            typed = False
        types = self.loaded.btf if typed else None
        if definition.inner is None:
            return _created(named, types, None)
        with self._create(definition.inner) as inner:
            return _created(named, types, inner)

    def _fill(self, created: Map, definition: MapDef) -> None:
        contents = self._kconfig if definition.name == ".kconfig" else definition.contents
        assert contents is not None
        if any(contents):
            created.update(b"\0\0\0\0", contents)
        if definition.frozen:
            created.freeze()
        if definition.flags & uapi.BPF_F_MMAPABLE:
            try:
                memory = created.map_memory(writable=not definition.frozen)
            except OSError as error:
                from tracebee.kernel.explain import ENOTSUPP  # only on the way to an error

                # A section with spin locks, lists or kernel pointers in it is for programs only.
                if error.errno != ENOTSUPP:
                    raise
            else:
                self.loaded.memory[definition.name] = memory

    def is_left_out(self, name: str) -> bool:
        """Whether a map was taken out of the object: a program may name it where the kernel never comes."""
        return name not in self.reuse and all(
            definition.name != name for definition in self.loaded.object.maps
        )

    def find(self, name: str) -> Map:
        """A map that is created, or used in place of the object's; by a section's name what it lies in.

        :raises SymbolError: there is none.
        """
        name = self._inside.get(name, name)
        found = self.reuse.get(name) or self.loaded.maps.get(name)
        if found is None:
            raise SymbolError(f"the object has no map '{name}'", sorted(self.loaded.maps))
        return found


def _created(definition: MapDef, types: Btf | None, inner: Map | None) -> Map:
    """A map with the types of its keys and values, or without where the kernel does not take them."""
    if types is not None:
        try:
            return Map.create(definition, btf=types, inner=inner)
        except KernelError:
            pass  # if it was not for the types, the error is the same without them
    return Map.create(definition, inner=inner)
