/* A global function is verified by itself, for any argument; a hidden one with what its callers pass. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__hidden __attribute__((noinline)) int read_hidden(int *value)
{
	return *value;
}

__attribute__((noinline)) int read_global(int *value)
{
	return *value;
}

SEC("socket") int safe(struct __sk_buff *ctx)
{
	int value = ctx->len;

	return read_hidden(&value);
}

SEC("?socket") int unsafe(struct __sk_buff *ctx)
{
	int value = ctx->len;

	return read_global(&value);
}

char LICENSE[] SEC("license") = "GPL";
