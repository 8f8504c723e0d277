/* One program for each way a section's name can say where to attach; each counts its hits. */
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

SEC("tracepoint/syscalls/sys_enter_getpgid") int tracepoint_long(void *ctx) { return hit(0); }
SEC("tp/syscalls/sys_enter_getpgid") int tracepoint_short(void *ctx) { return hit(1); }
SEC("raw_tp/sys_enter") int raw_short(void *ctx) { return hit(2); }
SEC("raw_tracepoint/sys_enter") int raw_long(void *ctx) { return hit(3); }
SEC("tp_btf/sys_enter") int typed(void *ctx) { return hit(4); }
SEC("uprobe/libc.so.6:getpgid") int user(void *ctx) { return hit(5); }
SEC("uretprobe/libc.so.6:getpgid") int user_return(void *ctx) { return hit(6); }
SEC("uprobe.multi/libc.so.6:getpgi*") int user_many(void *ctx) { return hit(7); }
SEC("iter/task") int walk(void *ctx) { return 0; }
SEC("socket") int nowhere(void *ctx) { return 0; }

char LICENSE[] SEC("license") = "GPL";
