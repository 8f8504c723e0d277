"""The header at the start of every map's memory, as offsets, in the host's byte order.

========  ====  =============  ============================================================================
offset    size  name           meaning
========  ====  =============  ============================================================================
0         4     magic          0x54424d31
4         4     type           BPF_MAP_TYPE_*
8         4     key_size       bytes
12        4     value_size     bytes of one value on one CPU
16        4     max_entries
20        4     flags          BPF_F_* of map creation
24        4     value_step     bytes from a value's slot for one CPU to that for the next
28        4     cpus           slots in a value: 1 except in per-CPU maps
32        4     element_step   bytes from one element to the next
36        4     bucket_mask    number of hash buckets minus 1
40        8     elements       offset of element 0
48        8     buckets        offset of the hash buckets, or of another table a type needs
56        8     size           bytes of the whole map
64        4     lock           thread that is changing the map as a whole
68        4     sequence       odd while the map as a whole is being changed
72        8     free           list of unused elements: index + 1 of the first low, a change counter high
80        8     count          elements in use
88        8     head           queue: number of values ever put in; LRU: the eviction hand
96        8     tail           queue: number of values ever taken out
104       8     extra          map_extra of map creation
112       4     value_offset   bytes from an element's start to its value
116       4     id             number of the map in its registry
========  ====  =============  ============================================================================
"""

from __future__ import annotations

MAGIC = 0x54424D31

TYPE, KEY_SIZE, VALUE_SIZE, MAX_ENTRIES, FLAGS = 4, 8, 12, 16, 20
VALUE_STEP, CPUS, ELEMENT_STEP, BUCKET_MASK = 24, 28, 32, 36
ELEMENTS, BUCKETS, SIZE = 40, 48, 56
LOCK, SEQUENCE, FREE, COUNT, HEAD, TAIL, EXTRA = 64, 68, 72, 80, 88, 96, 104
VALUE_OFFSET, ID = 112, 116

HEADER_BYTES = 128


def round_up(size: int, to: int) -> int:
    """The next multiple of a power of two."""
    return size + to - 1 & -to
