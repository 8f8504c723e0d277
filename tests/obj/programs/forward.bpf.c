/* Types that no kernel takes: clang writes an enumeration that is only declared with a size of 0. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum somewhere_else;

struct {
	enum somewhere_else *pointer;
	int number;
} both;

SEC("socket") int prog(struct __sk_buff *ctx)
{
	both.number = 7;
	return both.number + !both.pointer;
}

char LICENSE[] SEC("license") = "GPL";
