/* Every way to define a map: BTF fields, typed keys, inner maps with static contents, program arrays. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key {
	int pid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, struct key);
	__type(value, __u64);
} typed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(key_size, 4);
	__uint(value_size, 24);
	__uint(max_entries, 7);
	__uint(map_flags, BPF_F_NUMA_NODE);
	__uint(numa_node, 0);
} sized SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { &inner_a, 0, &inner_b },
};

SEC("socket") int tail(struct __sk_buff *ctx)
{
	return 7;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} jumps SEC(".maps") = {
	.values = { [1] = (void *)&tail },
};

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__uint(map_extra, 3);
	__type(value, __u32);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

SEC("socket") int jump(struct __sk_buff *ctx)
{
	bpf_tail_call(ctx, &jumps, 1);
	return 1;
}

SEC("socket") int store(struct __sk_buff *ctx)
{
	__u32 index = 2, zero = 0;
	__u64 value = 42, *found;
	void *map = bpf_map_lookup_elem(&outer, &index);

	if (!map)
		return 1;
	bpf_map_update_elem(map, &zero, &value, BPF_ANY);
	found = bpf_map_lookup_elem(&inner_b, &zero);
	return found ? *found : 2;
}

char LICENSE[] SEC("license") = "GPL";
