/* A parameter without a name: types that the kernel refuses, and that it can do without. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#pragma clang diagnostic ignored "-Wc2x-extensions"

SEC("syscall") int unnamed(void *)
{
	return 7;
}
