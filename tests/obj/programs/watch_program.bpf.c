/* Traces another program: its main function, and one whose name is given before loading. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

int calls, result;

SEC("fentry") int called(void *ctx)
{
	calls++;
	return 0;
}

SEC("fexit") int BPF_PROG(returned, int x, int ret)
{
	result = ret;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
