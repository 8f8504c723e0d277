/* Nothing here is loaded unless it is asked for. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("?socket") int one(struct __sk_buff *ctx)
{
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
