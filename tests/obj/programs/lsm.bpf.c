/* Security hooks: of the whole system, of a control group; and a function whose result is changed. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

long hits[3];
int watched;

SEC("lsm/task_alloc") int BPF_PROG(system_wide, void *task, unsigned long flags, int ret)
{
	if (bpf_get_current_pid_tgid() >> 32 == watched)
		__sync_fetch_and_add(&hits[0], 1);
	return ret;
}

SEC("lsm_cgroup/socket_bind") int of_group(void *ctx)
{
	__sync_fetch_and_add(&hits[1], 1);
	return 1;
}

SEC("lsm.s/file_open") int BPF_PROG(sleepable, void *file, int ret)
{
	if (bpf_get_current_pid_tgid() >> 32 == watched)
		__sync_fetch_and_add(&hits[2], 1);
	return ret;
}

char LICENSE[] SEC("license") = "GPL";
