/* Maps as they were defined before BTF. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct bpf_map_def {
	unsigned int type;
	unsigned int key_size;
	unsigned int value_size;
	unsigned int max_entries;
	unsigned int map_flags;
};

struct bpf_map_def SEC("maps") counts = {
	.type = BPF_MAP_TYPE_HASH,
	.key_size = 4,
	.value_size = 8,
	.max_entries = 16,
};
struct bpf_map_def SEC("maps") other = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = 4,
	.value_size = 4,
	.max_entries = 1,
};

SEC("socket") int prog(struct __sk_buff *ctx)
{
	int key = 0;
	int *value = bpf_map_lookup_elem(&other, &key);

	return value ? *value + 5 : 0;
}

char LICENSE[] SEC("license") = "GPL";
