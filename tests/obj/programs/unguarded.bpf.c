/* What no kernel has, each asked for without looking whether it is there: one program, chosen by CASE. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct signal_struct___mine {
	int nr_threads, no_nested_member;
};
struct list_head___mine {
	void *next, *prev;
};
struct task_struct___mine {
	int pid;
	unsigned no_such_bits : 3;
	int no_such_member;
	int no_such_array[4];
	/* Here, but not as a number, nor as an array, nor with this sign and size. */
	long comm;
	struct list_head___mine real_parent[2];
	short prio;
	struct signal_struct___mine *signal;
};
struct no_such_struct {
	int member;
};
#pragma clang attribute pop
enum pid_type___mine { PIDTYPE_NONE_SUCH = 3 };
typedef struct no_such_struct no_such_typedef;
extern int bpf_no_such_function(int x) __ksym __weak;

long seen;

static __attribute__((noinline)) int inside(struct task_struct___mine *task)
{
	int value = 0;

	bpf_core_read(&value, sizeof(value), &task->no_such_array[2]);
	return value + (int)bpf_get_prandom_u32();
}

SEC("tp_btf/sched_process_exit") int gather(__u64 *ctx)
{
	struct task_struct___mine *task = (void *)ctx[0];

	seen = bpf_get_current_pid_tgid();
	seen += task->pid;
#if CASE == 0
	seen += task->no_such_member;
#elif CASE == 1
	seen += BPF_CORE_READ(task, no_such_member);
#elif CASE == 2
	seen += BPF_CORE_READ_BITFIELD_PROBED(task, no_such_bits);
#elif CASE == 3
	seen += inside(task);
#elif CASE == 4
	seen += BPF_CORE_READ(task, signal, no_nested_member);
#elif CASE == 5
	seen += bpf_core_enum_value(enum pid_type___mine, PIDTYPE_NONE_SUCH);
#elif CASE == 6
	seen += bpf_core_type_id_kernel(struct no_such_struct) + ((struct no_such_struct *)task)->member;
#elif CASE == 7
	seen += task->comm;
#elif CASE == 8
	seen += (long)BPF_CORE_READ(task, real_parent[1].next);
#elif CASE == 9
	seen += task->prio;
#elif CASE == 10
	seen += bpf_core_field_size(struct task_struct___mine, no_such_array);
#elif CASE == 11
	seen += bpf_no_such_function(1);
#elif CASE == 12
	task->no_such_member = 1;
#elif CASE == 13
	if (bpf_core_field_exists(task->pid))
		seen += task->no_such_member;
#endif
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
