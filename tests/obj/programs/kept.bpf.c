/* A map that is pinned by its name, and a program that no verifier takes. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, int);
	__type(value, int);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} kept SEC(".maps");

SEC("socket") int good(struct __sk_buff *ctx)
{
	int key = 0;

	return !bpf_map_lookup_elem(&kept, &key);
}

SEC("?socket") int bad(struct __sk_buff *ctx)
{
	int key = ctx->len;
	int *value = bpf_map_lookup_elem(&kept, &key);

	return *value;
}

char LICENSE[] SEC("license") = "GPL";
