/* A macro that no header here defines: C takes it for a function. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("socket") int prog(struct __sk_buff *ctx)
{
	return htons(ctx->protocol);
}

char LICENSE[] SEC("license") = "GPL";
