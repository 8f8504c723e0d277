/* Variables that lie in an arena: newer compilers put what is declared __arena into this section. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define BPF_MAP_TYPE_ARENA_NUMBER 33
#define __arena_variable SEC(".addr_space.1")

struct {
	__uint(type, BPF_MAP_TYPE_ARENA_NUMBER);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 3);
#ifdef AT
	__ulong(map_extra, AT);
#endif
} pages SEC(".maps");

__arena_variable int first = 5;
__arena_variable __u64 second[600] = { 1, 2, 3 };

SEC("syscall") int sum(void *ctx)
{
	register __u64 at asm("r0") = (__u64)&second[2];

	/* addr_space_cast(r0, 0, 1), which this compiler need not know. */
	asm volatile(".byte 0xbf, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00" : "+r"(at));
	(*(volatile __u64 *)at)++;
	return *(volatile __u64 *)at;
}

char LICENSE[] SEC("license") = "GPL";
