/* Types, a variable and a function that only the module tun has: there when it is loaded, and not before. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct trace_event_raw_sys_enter {
	long id;
	unsigned long args[6];
};
struct net_device {
	int ifindex;
	char name[16];
};
typedef struct {
	__u32 val;
} kuid_t;
struct tun_file;
struct tun_struct {
	unsigned int numqueues;
	kuid_t owner;
	unsigned long long flags;
	struct net_device *dev;
	struct tun_file *tfiles[2];
};
struct tun_file {
	struct tun_struct *tun;
};
struct file {
	void *private_data;
	const void *f_op;
};
struct fdtable {
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct task_struct {
	struct files_struct *files;
};
#pragma clang attribute pop

extern const void tun_fops __ksym __weak;

const volatile int only = 0;
int has_tun = -1, queues, own_queue, is_tun, calls;
unsigned int owner, ifindex;
unsigned long long flags;
char name[16];

SEC("tp/syscalls/sys_enter_lseek") int look(struct trace_event_raw_sys_enter *ctx)
{
	struct task_struct *me = (void *)bpf_get_current_task();
	struct file **all = BPF_CORE_READ(me, files, fdt, fd), *open = 0;
	struct tun_file *file;
	struct tun_struct *tun;

	if (bpf_get_current_pid_tgid() >> 32 != only)
		return 0;
	has_tun = bpf_core_type_exists(struct tun_struct) + bpf_core_field_exists(tun->owner.val);
	if (!has_tun)
		return 0;
	bpf_probe_read_kernel(&open, sizeof(open), all + ctx->args[0]);
	if (&tun_fops)
		is_tun = BPF_CORE_READ(open, f_op) == &tun_fops;
	file = BPF_CORE_READ(open, private_data);
	tun = BPF_CORE_READ(file, tun);
	owner = BPF_CORE_READ(tun, owner.val);
	flags = BPF_CORE_READ(tun, flags);
	queues = BPF_CORE_READ(tun, numqueues);
	own_queue = BPF_CORE_READ(tun, tfiles[0]) == file;
	ifindex = BPF_CORE_READ(tun, dev, ifindex);
	BPF_CORE_READ_STR_INTO(&name, tun, dev, name);
	return 0;
}

/* The verifier knows the argument's type from the module: it is read directly. */
SEC("?fentry/tun_net_uninit") int BPF_PROG(uninit, struct net_device *dev)
{
	if (dev->ifindex == ifindex)
		calls++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
