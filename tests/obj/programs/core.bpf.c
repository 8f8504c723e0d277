/* Fields that moved, were renamed (flavours), are missing or bit-fields: CO-RE by clang's builtins. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct task_struct {
	/* Neither the order nor the offsets are the kernel's. */
	int tgid;
	int pid;
	char comm[16];
	struct task_struct *group_leader;
	unsigned in_execve : 1;
};
struct task_struct___old {
	long state;
};
struct task_struct___new {
	unsigned int __state;
};
struct no_such_struct {
	int field;
};
#pragma clang attribute pop
enum bpf_cmd___mine { BPF_MAP_CREATE___mine = 77, BPF_PROG_LOAD___mine };

int pid, tgid, leader, has_old, has_new, exists, has_missing, type_size, in_execve, cmd;
char comm[16];

SEC("raw_tp/sched_process_exec") int exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];

	pid = BPF_CORE_READ(task, pid);
	tgid = BPF_CORE_READ(task, tgid);
	leader = BPF_CORE_READ(task, group_leader, pid);
	BPF_CORE_READ_STR_INTO(&comm, task, comm);
	in_execve = BPF_CORE_READ_BITFIELD_PROBED(task, in_execve);
	has_old = bpf_core_field_exists(((struct task_struct___old *)0)->state);
	has_new = bpf_core_field_exists(((struct task_struct___new *)0)->__state);
	exists = bpf_core_type_exists(struct task_struct);
	has_missing = bpf_core_type_exists(struct no_such_struct);
	type_size = bpf_core_type_size(struct task_struct);
	cmd = bpf_core_enum_value(enum bpf_cmd___mine, BPF_PROG_LOAD___mine);
	if (has_missing)
		pid = BPF_CORE_READ((struct no_such_struct *)task, field);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
