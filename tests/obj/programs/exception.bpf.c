/* A program that ends itself, and the function that then answers in its place. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern void bpf_throw(__u64 cookie) __ksym;

static __attribute__((noinline)) int twice(__u64 number)
{
	return number * 2;
}

__attribute__((noinline)) int answer(__u64 cookie)
{
	return twice(cookie) + 1;
}

__attribute__((btf_decl_tag("exception_callback:answer")))
SEC("tc") int thrower(struct __sk_buff *skb)
{
	if (skb->len)
		bpf_throw(20);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
