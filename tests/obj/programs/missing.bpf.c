/* An unguarded read of a field that no kernel has: refused, and the refusal should say which field. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct___mine {
	int no_such_member;
} __attribute__((preserve_access_index));

int seen;

SEC("raw_tp/sched_process_exec") int exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct___mine *task = (void *)ctx->args[0];

	seen = BPF_CORE_READ(task, no_such_member);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
