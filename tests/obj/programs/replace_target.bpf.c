/* A program with global functions, for replace.bpf.c to replace. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__attribute__((noinline)) int score(int x)
{
	volatile int result = x + 1;

	return result;
}

SEC("socket") int rate(struct __sk_buff *ctx)
{
	return score(ctx->len);
}

char LICENSE[] SEC("license") = "GPL";
