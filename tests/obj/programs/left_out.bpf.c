/* A map that no kernel has, used where a setting says that there is one. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, 1000);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} future SEC(".maps");

const volatile _Bool has_future = 1;

SEC("socket") int guarded(struct __sk_buff *ctx)
{
	int key = 0;

	if (has_future)
		return bpf_map_delete_elem(&future, &key);
	return 5;
}

char LICENSE[] SEC("license") = "GPL";
