/* A map defined by numbers, as of old, in the section of those defined by types. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	int type, key_size, value_size, max_entries;
} mixed SEC(".maps") = { BPF_MAP_TYPE_ARRAY, 4, 4, 1 };

SEC("socket") int prog(struct __sk_buff *ctx)
{
	int key = 0;

	return !bpf_map_lookup_elem(&mixed, &key);
}

char LICENSE[] SEC("license") = "GPL";
