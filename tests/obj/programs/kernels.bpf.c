/* What a program meets on its way from kernel to kernel: fields that moved, grew, became bit-fields, got
   other names or types, and went. Compiled with kernels.h or with any kernel's own types. */
#ifndef KERNEL_TYPES
#define KERNEL_TYPES "kernels.h"
#endif
#include KERNEL_TYPES
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* Until 5.13 and until 5.4. */
struct task_struct___old {
	long state;
	u64 real_start_time;
};
struct task_struct___new {
	unsigned int __state;
};
/* Until 6.6: the list of a process's threads. */
struct list_head___mine {
	void *next;
};
struct task_struct___threads {
	struct list_head___mine thread_group;
};
/* Until 6.6, until 6.10, and since: three ways to say when a file was changed. */
struct timespec64___mine {
	long long tv_sec;
};
struct inode___timespec {
	struct timespec64___mine i_mtime;
};
struct inode___underscored {
	struct timespec64___mine __i_mtime;
};
struct inode___seconds {
	long long i_mtime_sec;
};
/* unsigned long, then u32, then an enumeration of its own. */
struct inode___number {
	unsigned long i_state;
};
enum inode_state_flags_t___mine { I_NOTHING___mine };
struct inode___enum {
	enum inode_state_flags_t___mine i_state;
};
/* Renamed in 6.15, when RCU came to guard it. */
struct kernfs_node___old {
	struct kernfs_node *parent;
};
struct kernfs_node___new {
	struct kernfs_node *__parent;
};
/* One word of flags, then a bitmap in a struct. */
struct mm_struct___word {
	unsigned long flags;
};
typedef struct {
	unsigned long __mm_flags[1];
} mm_flags_t___mine;
struct mm_struct___bitmap {
	mm_flags_t___mine flags;
};
/* Four bits, since 6.6 a byte. */
struct sock___bits {
	unsigned char sk_userlocks : 4;
};
/* A bit, since 6.6 the eleventh of a word. */
struct inet_sock___bit {
	unsigned char freebind : 1;
};
struct inet_sock___word {
	unsigned long inet_flags;
};
struct mm_rss_stat___gone {
	long count[4];
};
struct perf_event_context___mine {
	int nr_events;
};
struct task_struct___contexts {
	struct perf_event_context___mine *perf_event_ctxp[2];
};
#pragma clang attribute pop
enum pageflags___none { PG_no_such_flag___none = 5 };

const volatile int only = 0; /* the process that is looked at */

/* What of all that this kernel has. */
struct {
	int state, __state, thread_group, contexts, mtime_timespec, mtime_underscored, mtime_seconds;
	int state_number, state_enum, flags_word, flags_bitmap, parent, __parent;
	int userlocks, freebind, inet_flags, real_start_time, no_such_flag;
	int mm_rss_stat, task_struct, pids_cgrp_id, clang, contexts_match;
	int task_size, auxv_size, auxv_count, operstate_size, ttl_signed, mtu_signed, writeback;
} has = {};

struct {
	char comm[16], release[65], pids_name[16], thread_comm[16];
	int pid, tgid, parent, leader, level, nr, threads, prio, reset_on_fork, reset_probed, subreaper;
	unsigned int uid, euid;
	unsigned long files, auxv[6], arg_start, env_end, exe, dumpable, thread;
	u64 start, cgroup;
	unsigned long maps, runs;
} task = {};

struct {
	char name[16], in[16];
	long long size, position, mtime;
	unsigned long ino, mode, flags, state;
} file = {};

struct {
	int family, port, peer, protocol, type, reuse, reuseport, no_check, userlocks, freebind, ttl, rcvbuf;
	unsigned int address;
	char device[16];
	int ifindex, mtu, operstate, runs;
} sock = {};

struct {
	char name[32];
	u64 id, parent;
} cgroup = {};

static struct file *opened(struct task_struct *me, unsigned long fd)
{
	struct file **all = BPF_CORE_READ(me, files, fdt, fd), *one = 0;

	bpf_probe_read_kernel(&one, sizeof(one), all + fd);
	return one;
}

static __always_inline int mine(void)
{
	return bpf_get_current_pid_tgid() >> 32 == only;
}

SEC("tp/syscalls/sys_enter_lseek") int read_existence(struct trace_event_raw_sys_enter *ctx)
{
	if (!mine())
		return 0;
	has.state = bpf_core_field_exists(struct task_struct___old, state);
	has.real_start_time = bpf_core_field_exists(struct task_struct___old, real_start_time);
	has.__state = bpf_core_field_exists(struct task_struct___new, __state);
	has.thread_group = bpf_core_field_exists(struct task_struct___threads, thread_group.next);
	has.contexts = bpf_core_field_exists(struct task_struct___contexts, perf_event_ctxp[1]);
	has.mtime_timespec = bpf_core_field_exists(struct inode___timespec, i_mtime.tv_sec);
	has.mtime_underscored = bpf_core_field_exists(struct inode___underscored, __i_mtime.tv_sec);
	has.mtime_seconds = bpf_core_field_exists(struct inode___seconds, i_mtime_sec);
	has.state_number = bpf_core_field_exists(struct inode___number, i_state);
	has.state_enum = bpf_core_field_exists(struct inode___enum, i_state);
	has.flags_word = bpf_core_field_exists(struct mm_struct___word, flags);
	has.flags_bitmap = bpf_core_field_exists(struct mm_struct___bitmap, flags.__mm_flags[0]);
	has.parent = bpf_core_field_exists(struct kernfs_node___old, parent);
	has.__parent = bpf_core_field_exists(struct kernfs_node___new, __parent);
	has.userlocks = bpf_core_field_exists(((struct sock___bits *)0)->sk_userlocks);
	has.freebind = bpf_core_field_exists(((struct inet_sock___bit *)0)->freebind);
	has.inet_flags = bpf_core_field_exists(struct inet_sock___word, inet_flags);
	has.mm_rss_stat = bpf_core_type_exists(struct mm_rss_stat___gone);
	has.task_struct = bpf_core_type_exists(struct task_struct___old);
	has.pids_cgrp_id = bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id);
	has.no_such_flag = bpf_core_enum_value_exists(enum pageflags___none, PG_no_such_flag___none);
	has.writeback = bpf_core_enum_value(enum pageflags, PG_writeback);
	has.task_size = bpf_core_type_size(struct task_struct);
	has.auxv_size = bpf_core_field_size(struct mm_struct, saved_auxv);
	has.operstate_size = bpf_core_field_size(struct net_device, operstate);
	has.ttl_signed = __builtin_preserve_field_info(((struct inet_sock *)0)->uc_ttl, BPF_FIELD_SIGNED);
	has.mtu_signed = __builtin_preserve_field_info(((struct net_device *)0)->mtu, BPF_FIELD_SIGNED);
	has.clang = __clang_major__;
#if __clang_major__ >= 16
	has.contexts_match = bpf_core_type_matches(struct task_struct___contexts);
#endif
	return 0;
}

SEC("tp/syscalls/sys_enter_lseek") int read_task(struct trace_event_raw_sys_enter *ctx)
{
	struct task_struct *me = (void *)bpf_get_current_task();
	struct cgroup_subsys_state *css = 0;
	struct css_set *set;
	struct mm_struct *mm;

	if (!mine())
		return 0;
	task.pid = BPF_CORE_READ(me, pid);
	task.tgid = BPF_CORE_READ(me, tgid);
	task.parent = BPF_CORE_READ(me, real_parent, tgid);
	task.leader = BPF_CORE_READ(me, group_leader, pid);
	BPF_CORE_READ_STR_INTO(&task.comm, me, group_leader, comm);
	BPF_CORE_READ_STR_INTO(&task.thread_comm, me, comm);
	task.prio = BPF_CORE_READ(me, static_prio);
	task.uid = BPF_CORE_READ(me, cred, uid.val);
	task.euid = BPF_CORE_READ(me, cred, euid.val);
	task.level = BPF_CORE_READ(me, thread_pid, level);
	task.nr = BPF_CORE_READ(me, thread_pid, numbers[0].nr);
	task.threads = BPF_CORE_READ(me, signal, nr_threads);
	task.files = BPF_CORE_READ(me, signal, rlim[7].rlim_cur);
	BPF_CORE_READ_STR_INTO(&task.release, me, nsproxy, uts_ns, name.release);
	task.reset_probed = BPF_CORE_READ_BITFIELD_PROBED(me, sched_reset_on_fork);
	{
		struct signal_struct *signal = BPF_CORE_READ(me, signal);

		task.subreaper = BPF_CORE_READ_BITFIELD_PROBED(signal, is_child_subreaper);
	}
	if (bpf_core_field_exists(me->start_boottime))
		task.start = BPF_CORE_READ(me, start_boottime);
	else
		task.start = BPF_CORE_READ((struct task_struct___old *)me, real_start_time);

	mm = BPF_CORE_READ(me, mm);
	task.maps = BPF_CORE_READ(mm, map_count);
	task.arg_start = BPF_CORE_READ(mm, arg_start);
	task.env_end = BPF_CORE_READ(mm, env_end);
	task.exe = BPF_CORE_READ(mm, exe_file, f_inode, i_mode);
	bpf_probe_read_kernel(&task.auxv, sizeof(task.auxv), __builtin_preserve_access_index(&mm->saved_auxv));
	if (bpf_core_field_exists(struct mm_struct___word, flags))
		task.dumpable = BPF_CORE_READ((struct mm_struct___word *)mm, flags) & 3;
	else
		task.dumpable = BPF_CORE_READ((struct mm_struct___bitmap *)mm, flags.__mm_flags[0]) & 3;

	set = BPF_CORE_READ(me, cgroups);
	task.cgroup = BPF_CORE_READ(set, dfl_cgrp, kn, id);
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id)) {
		int id = bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);

		bpf_probe_read_kernel(&css, sizeof(css), (void *)__builtin_preserve_access_index(&set->subsys) + 8 * id);
		bpf_probe_read_kernel_str(&task.pids_name, sizeof(task.pids_name), BPF_CORE_READ(css, ss, name));
	}
	task.runs++;
	return 0;
}

/* Fields of pointers that the verifier knows: loads and stores of the kernel's own size and place. */
SEC("tp_btf/sys_enter") int read_directly(u64 *ctx)
{
	struct task_struct *me = bpf_get_current_task_btf();

	if (!mine() || ctx[1] != 8 /* lseek */)
		return 0;
	task.reset_on_fork = BPF_CORE_READ_BITFIELD(me, sched_reset_on_fork);
	if (bpf_core_field_exists(struct task_struct___threads, thread_group.next))
		task.thread = (unsigned long)((struct task_struct___threads *)me)->thread_group.next;
	if (me->signal->nr_threads != me->group_leader->signal->nr_threads)
		task.threads = -1;
	return 0;
}

SEC("tp/syscalls/sys_enter_lseek") int read_file(struct trace_event_raw_sys_enter *ctx)
{
	struct task_struct *me = (void *)bpf_get_current_task();
	struct file *open = opened(me, ctx->args[0]);
	struct inode *inode = BPF_CORE_READ(open, f_inode);

	if (!mine() || (BPF_CORE_READ(inode, i_mode) & 0170000) != 0100000)
		return 0;
	file.ino = BPF_CORE_READ(inode, i_ino);
	file.mode = BPF_CORE_READ(inode, i_mode);
	file.size = BPF_CORE_READ(inode, i_size);
	file.position = BPF_CORE_READ(open, f_pos);
	file.flags = BPF_CORE_READ(open, f_flags);
	bpf_probe_read_kernel_str(&file.name, sizeof(file.name), BPF_CORE_READ(open, f_path.dentry, d_name.name));
	bpf_probe_read_kernel_str(&file.in, sizeof(file.in),
				  BPF_CORE_READ(open, f_path.dentry, d_parent, d_name.name));
	if (bpf_core_field_exists(struct inode___timespec, i_mtime.tv_sec))
		file.mtime = BPF_CORE_READ((struct inode___timespec *)inode, i_mtime.tv_sec);
	else if (bpf_core_field_exists(struct inode___underscored, __i_mtime.tv_sec))
		file.mtime = BPF_CORE_READ((struct inode___underscored *)inode, __i_mtime.tv_sec);
	else
		file.mtime = BPF_CORE_READ((struct inode___seconds *)inode, i_mtime_sec);
	if (bpf_core_field_exists(struct inode___enum, i_state))
		file.state = BPF_CORE_READ((struct inode___enum *)inode, i_state);
	return 0;
}

SEC("tp/syscalls/sys_enter_lseek") int read_cgroup(struct trace_event_raw_sys_enter *ctx)
{
	struct task_struct *me = (void *)bpf_get_current_task();
	struct inode *inode = BPF_CORE_READ(opened(me, ctx->args[0]), f_inode);
	struct kernfs_node *node, *parent;

	if (!mine() || (BPF_CORE_READ(inode, i_mode) & 0170000) != 0040000)
		return 0;
	node = BPF_CORE_READ(inode, i_private);
	if (bpf_core_field_exists(struct kernfs_node___old, parent))
		parent = BPF_CORE_READ((struct kernfs_node___old *)node, parent);
	else
		parent = BPF_CORE_READ((struct kernfs_node___new *)node, __parent);
	cgroup.id = BPF_CORE_READ(node, id);
	cgroup.parent = BPF_CORE_READ(parent, id);
	bpf_probe_read_kernel_str(&cgroup.name, sizeof(cgroup.name), BPF_CORE_READ(node, name));
	return 0;
}

SEC("tp/syscalls/sys_enter_lseek") int read_socket(struct trace_event_raw_sys_enter *ctx)
{
	struct task_struct *me = (void *)bpf_get_current_task();
	struct file *open = opened(me, ctx->args[0]);
	struct socket *socket = BPF_CORE_READ(open, private_data);
	struct sock *sk = BPF_CORE_READ(socket, sk);
	struct sock_common *common = __builtin_preserve_access_index(&sk->__sk_common);
	struct net_device *device;

	if (!mine() || (BPF_CORE_READ(open, f_inode, i_mode) & 0170000) != 0140000)
		return 0;
	sock.type = BPF_CORE_READ(socket, type);
	sock.family = BPF_CORE_READ(sk, __sk_common.skc_family);
	sock.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	sock.peer = BPF_CORE_READ(sk, __sk_common.skc_dport);
	sock.address = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	sock.protocol = BPF_CORE_READ(sk, sk_protocol);
	sock.rcvbuf = BPF_CORE_READ(sk, sk_rcvbuf);
	sock.reuse = BPF_CORE_READ_BITFIELD_PROBED(common, skc_reuse);
	sock.reuseport = BPF_CORE_READ_BITFIELD_PROBED(common, skc_reuseport);
	sock.no_check = BPF_CORE_READ_BITFIELD_PROBED(sk, sk_no_check_tx);
	/* A bit-field here may be none there, and the other way round. */
	sock.userlocks = BPF_CORE_READ_BITFIELD_PROBED((struct sock___bits *)sk, sk_userlocks);
	if (bpf_core_field_exists(struct inet_sock___word, inet_flags))
		sock.freebind = BPF_CORE_READ((struct inet_sock___word *)sk, inet_flags) >> 11 & 1;
	else
		sock.freebind = BPF_CORE_READ_BITFIELD_PROBED((struct inet_sock___bit *)sk, freebind);
	sock.ttl = BPF_CORE_READ_BITFIELD_PROBED((struct inet_sock *)sk, uc_ttl);
	device = BPF_CORE_READ(sk, __sk_common.skc_net.net, loopback_dev);
	BPF_CORE_READ_STR_INTO(&sock.device, device, name);
	sock.ifindex = BPF_CORE_READ(device, ifindex);
	sock.mtu = BPF_CORE_READ(device, mtu);
	sock.operstate = BPF_CORE_READ_BITFIELD_PROBED(device, operstate);
	sock.runs++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
