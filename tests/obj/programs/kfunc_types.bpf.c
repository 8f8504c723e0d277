/* Kernel functions that the kernel declares otherwise: one that must be there, one that may be missing. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern void bpf_task_release(int number) __ksym;
extern int bpf_task_acquire(int number, int other) __ksym __weak;

SEC("?tp_btf/sched_process_exec") int strong(__u64 *ctx)
{
	bpf_task_release(1);
	return 0;
}

SEC("tp_btf/sched_process_exec") int weak(__u64 *ctx)
{
	return bpf_task_acquire ? bpf_task_acquire(1, 2) : 0;
}

SEC("?tp_btf/sched_process_exec") int unguarded(__u64 *ctx)
{
	return bpf_task_acquire(1, 2);
}

char LICENSE[] SEC("license") = "GPL";
