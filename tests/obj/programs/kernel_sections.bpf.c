/* As sections.bpf.c, for kernels with kprobes. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, int);
	__type(value, long);
} hits SEC(".maps");

long cookies[16];

static __always_inline int hit(int key)
{
	long *count = bpf_map_lookup_elem(&hits, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

static __always_inline int marked(void *ctx, int key)
{
	cookies[key] = bpf_get_attach_cookie(ctx);
	return hit(key);
}

SEC("kprobe/vfs_read") int entry(void *ctx) { return marked(ctx, 0); }
SEC("kretprobe/vfs_read") int back(void *ctx) { return marked(ctx, 1); }
SEC("ksyscall/getpgid") int call(void *ctx) { return marked(ctx, 2); }
SEC("kprobe.multi/vfs_rea*") int many(void *ctx) { return marked(ctx, 3); }
SEC("kretprobe.multi/vfs_rea?") int many_back(void *ctx) { return marked(ctx, 4); }
SEC("kretsyscall/getpgid") int call_back(void *ctx) { return marked(ctx, 5); }
SEC("kprobe.session/vfs_rea*") int both(void *ctx) { return hit(6); }
SEC("fentry/vfs_read") int traced(void *ctx) { return marked(ctx, 7); }
SEC("fexit/vfs_read") int traced_back(void *ctx) { return marked(ctx, 8); }
SEC("kprobe") int placed(void *ctx) { return marked(ctx, 9); }
SEC("kprobe/vfs_read+0x0") int at_offset(void *ctx) { return hit(10); }

char LICENSE[] SEC("license") = "GPL";
