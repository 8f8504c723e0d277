"""Which helpers go with which map types.

A map type that only some helpers know refuses all others, and a helper made for some map types
refuses the others. Source: the kernel's ``check_map_func_compatibility``.
"""

from __future__ import annotations

from tracebee import uapi as u

# Map types whose helpers are these alone.
ONLY: dict[int, frozenset[str]] = {
    u.BPF_MAP_TYPE_PROG_ARRAY: frozenset(("tail_call",)),
    u.BPF_MAP_TYPE_PERF_EVENT_ARRAY: frozenset(
        ("perf_event_read", "perf_event_output", "skb_output", "perf_event_read_value", "xdp_output")
    ),
    u.BPF_MAP_TYPE_RINGBUF: frozenset(
        (
            "ringbuf_output",
            "ringbuf_reserve",
            "ringbuf_query",
            "ringbuf_reserve_dynptr",
            "ringbuf_submit_dynptr",
            "ringbuf_discard_dynptr",
        )
    ),
    u.BPF_MAP_TYPE_USER_RINGBUF: frozenset(("user_ringbuf_drain",)),
    u.BPF_MAP_TYPE_STACK_TRACE: frozenset(("get_stackid",)),
    u.BPF_MAP_TYPE_CGROUP_ARRAY: frozenset(("skb_under_cgroup", "current_task_under_cgroup")),
    u.BPF_MAP_TYPE_QUEUE: frozenset(("map_peek_elem", "map_pop_elem", "map_push_elem")),
    u.BPF_MAP_TYPE_STACK: frozenset(("map_peek_elem", "map_pop_elem", "map_push_elem")),
    u.BPF_MAP_TYPE_BLOOM_FILTER: frozenset(("map_peek_elem", "map_push_elem")),
    u.BPF_MAP_TYPE_ARRAY_OF_MAPS: frozenset(("map_lookup_elem",)),
    u.BPF_MAP_TYPE_HASH_OF_MAPS: frozenset(("map_lookup_elem",)),
    u.BPF_MAP_TYPE_DEVMAP: frozenset(("redirect_map", "map_lookup_elem")),
    u.BPF_MAP_TYPE_CPUMAP: frozenset(("redirect_map",)),
    u.BPF_MAP_TYPE_TASK_STORAGE: frozenset(("task_storage_get", "task_storage_delete", "kptr_xchg")),
}
# Helpers whose maps are of these types alone.
NEEDS: dict[str, frozenset[int]] = {
    "tail_call": frozenset((u.BPF_MAP_TYPE_PROG_ARRAY,)),
    "perf_event_read": frozenset((u.BPF_MAP_TYPE_PERF_EVENT_ARRAY,)),
    "perf_event_output": frozenset((u.BPF_MAP_TYPE_PERF_EVENT_ARRAY,)),
    "perf_event_read_value": frozenset((u.BPF_MAP_TYPE_PERF_EVENT_ARRAY,)),
    "skb_output": frozenset((u.BPF_MAP_TYPE_PERF_EVENT_ARRAY,)),
    "xdp_output": frozenset((u.BPF_MAP_TYPE_PERF_EVENT_ARRAY,)),
    "ringbuf_output": frozenset((u.BPF_MAP_TYPE_RINGBUF,)),
    "ringbuf_reserve": frozenset((u.BPF_MAP_TYPE_RINGBUF,)),
    "ringbuf_query": frozenset((u.BPF_MAP_TYPE_RINGBUF,)),
    "user_ringbuf_drain": frozenset((u.BPF_MAP_TYPE_USER_RINGBUF,)),
    "get_stackid": frozenset((u.BPF_MAP_TYPE_STACK_TRACE,)),
    "current_task_under_cgroup": frozenset((u.BPF_MAP_TYPE_CGROUP_ARRAY,)),
    "skb_under_cgroup": frozenset((u.BPF_MAP_TYPE_CGROUP_ARRAY,)),
    "redirect_map": frozenset((u.BPF_MAP_TYPE_DEVMAP, u.BPF_MAP_TYPE_CPUMAP, u.BPF_MAP_TYPE_XSKMAP)),
    "map_peek_elem": frozenset((u.BPF_MAP_TYPE_QUEUE, u.BPF_MAP_TYPE_STACK, u.BPF_MAP_TYPE_BLOOM_FILTER)),
    "map_push_elem": frozenset((u.BPF_MAP_TYPE_QUEUE, u.BPF_MAP_TYPE_STACK, u.BPF_MAP_TYPE_BLOOM_FILTER)),
    "map_pop_elem": frozenset((u.BPF_MAP_TYPE_QUEUE, u.BPF_MAP_TYPE_STACK)),
    "map_lookup_percpu_elem": frozenset(
        (u.BPF_MAP_TYPE_PERCPU_ARRAY, u.BPF_MAP_TYPE_PERCPU_HASH, u.BPF_MAP_TYPE_LRU_PERCPU_HASH)
    ),
    "task_storage_get": frozenset((u.BPF_MAP_TYPE_TASK_STORAGE,)),
    "task_storage_delete": frozenset((u.BPF_MAP_TYPE_TASK_STORAGE,)),
}


def compatible(map_type: int, helper: str) -> bool:
    """Whether a helper takes a map of a type."""
    only = ONLY.get(map_type)
    if only is not None and helper not in only:
        return False
    needs = NEEDS.get(helper)
    return needs is None or map_type in needs
