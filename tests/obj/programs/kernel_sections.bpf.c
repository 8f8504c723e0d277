/* As sections.bpf.c, for kernels with kprobes. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, int);
	__type(value, long);
} hits SEC(".maps");

static __always_inline int hit(int key)
{
	long *count = bpf_map_lookup_elem(&hits, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

SEC("kprobe/vfs_read") int entry(void *ctx) { return hit(0); }
SEC("kretprobe/vfs_read") int back(void *ctx) { return hit(1); }
SEC("ksyscall/getpgid") int call(void *ctx) { return hit(2); }
SEC("kprobe.multi/vfs_rea*") int many(void *ctx) { return hit(3); }

char LICENSE[] SEC("license") = "GPL";
