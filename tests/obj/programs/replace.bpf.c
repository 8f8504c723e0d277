/* What takes the place of a function of replace_target.bpf.c. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int calls;

SEC("freplace/score") int better(int x)
{
	calls++;
	return x * 100;
}

char LICENSE[] SEC("license") = "GPL";
