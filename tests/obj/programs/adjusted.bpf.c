/* What a loader adjusts: sizes of ring buffers, types that a map cannot have; and the order of functions. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1000);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 5000);
} user_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, int);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_RINGBUF);
		__uint(max_entries, 1000);
	});
} rings SEC(".maps") = {
	.values = { (void *)&ring },
};

/* The kernel wants a struct for a type of such keys. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, __u64);
	__type(value, __u64);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} prefixes SEC(".maps");

const volatile int table[4] SEC(".rodata.table") = { 10, 20, 30, 40 };

static __noinline int inner(int x)
{
	return table[x & 3] + 1;
}

static __noinline int first(int x)
{
	return inner(x) * 2;
}

static __noinline int second(int x)
{
	return inner(x + 1) * 3;
}

SEC("socket") int prog(struct __sk_buff *ctx)
{
	return first(ctx->len) + second(ctx->len);
}

char LICENSE[] SEC("license") = "GPL";
