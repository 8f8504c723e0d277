/* Kernel functions: one that exists, one that does not and is weak.

   The first 4-byte integer among the types is called "unsigned int": no name for a parameter. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern int bpf_no_such_function(int x) __ksym __weak;

int seen;

SEC("tp_btf/sched_process_exec") unsigned int exec(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0], *held;

	held = bpf_task_acquire(task);
	if (held) {
		seen++;
		bpf_task_release(held);
	}
	if (bpf_no_such_function)
		return bpf_no_such_function(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
