/* A map as iproute2 has them: more numbers than struct bpf_map_def. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct bpf_elf_map {
	__u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx;
};

struct bpf_elf_map SEC("maps") shared = {
	.type = BPF_MAP_TYPE_ARRAY, .size_key = 4, .size_value = 4, .max_elem = 1, .pinning = 2,
};

SEC("tc") int prog(struct __sk_buff *ctx)
{
	int key = 0;

	return !bpf_map_lookup_elem(&shared, &key);
}

char LICENSE[] SEC("license") = "GPL";
