/* Memory that a program allocates and user space sees at the same addresses. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define BPF_MAP_TYPE_ARENA_NUMBER 33

struct {
	__uint(type, BPF_MAP_TYPE_ARENA_NUMBER);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 10);
} arena SEC(".maps");

extern void *bpf_arena_alloc_pages(void *map, void *addr, __u32 pages, int node, __u64 flags) __ksym;

__u64 address;

SEC("syscall") int allocate(void *ctx)
{
	address = (__u64)bpf_arena_alloc_pages(&arena, 0, 2, -1, 0);
	return address != 0;
}

char LICENSE[] SEC("license") = "GPL";
