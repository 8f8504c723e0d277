"""Maps in user space: the kernel's map types in shared memory, for the VM's engines and for native code.

A map is one piece of memory: a header, then what its type needs. Everything in it is an offset from the
header or an index, so that processes may map it at different addresses. Native code finds all it needs
in the header; ``layout`` has the fields, and the docstring of each type's module what lies behind the header
and the rules for changing it:

========  ==========================================================================================
module    types
========  ==========================================================================================
array     ARRAY, PERCPU_ARRAY
hash      HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH
lpm       LPM_TRIE
queue     QUEUE, STACK
bloom     BLOOM_FILTER
ringbuf   RINGBUF
nested    PROG_ARRAY, ARRAY_OF_MAPS, HASH_OF_MAPS
stacks    STACK_TRACE
========  ==========================================================================================

Locks are words that hold the thread id of their owner, 0 when free, taken by compare-and-exchange. Who
finds a lock held by a thread that no longer lives takes it over; every change to a structure is made so
that what is there after each single store is whole.

A map pointer, as helpers take it, is the address of the header.
"""
