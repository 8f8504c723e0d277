/* Types of several kernels at once, with nothing where any kernel has it: members are in another order, of
   other sizes where CO-RE can tell, in other places, beside members that no kernel has. */
#include <linux/bpf.h>
#include <stdbool.h>
typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct trace_event_raw_sys_enter {
	unsigned long args[6];
	long id;
};
struct qstr {
	const unsigned char *name;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};
struct path {
	struct dentry *dentry;
};
struct inode {
	void *i_private;
	long long i_size;
	char no_kernel_has_this[40];
	unsigned short i_mode;
	unsigned long i_ino;
};
struct file {
	long long f_pos;
	void *private_data;
	struct inode *f_inode;
	struct path f_path;
	unsigned int f_flags;
};
struct fdtable {
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct kernfs_node {
	const char *name;
	u64 id;
};
struct cgroup {
	struct kernfs_node *kn;
};
struct cgroup_subsys {
	const char *name;
};
struct cgroup_subsys_state {
	struct cgroup_subsys *ss;
};
struct css_set {
	struct cgroup *dfl_cgrp;
	int no_kernel_has_this;
	struct cgroup_subsys_state *subsys[3];
};
struct new_utsname {
	char release[65];
	char sysname[65];
};
struct uts_namespace {
	struct new_utsname name;
};
struct nsproxy {
	struct uts_namespace *uts_ns;
};
struct upid {
	int nr;
};
struct pid {
	struct upid numbers[1];
	unsigned int level;
};
struct rlimit {
	unsigned long rlim_max;
	unsigned long rlim_cur;
};
struct signal_struct {
	struct rlimit rlim[16];
	/* Both bits are elsewhere, and in a unit of another size. */
	unsigned long long padding : 41;
	unsigned long long is_child_subreaper : 1;
	int nr_threads;
};
struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	int map_count;
	/* How many there are differs from kernel to kernel. */
	unsigned long saved_auxv[6];
	unsigned long env_end;
};
typedef struct {
	unsigned int val;
} kuid_t;
struct cred {
	kuid_t euid;
	kuid_t uid;
};
struct task_struct {
	char comm[16];
	struct nsproxy *nsproxy;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	const struct cred *cred;
	struct css_set *cgroups;
	unsigned char sched_reset_on_fork : 1;
	int tgid;
	int pid;
	int static_prio;
	u64 start_boottime;
	struct pid *thread_pid;
	struct files_struct *files;
	struct mm_struct *mm;
};
typedef struct {
	struct net *net;
} possible_net_t;
/* The kernels have these two in unions without names. */
struct sock_common {
	unsigned short skc_num;
	unsigned short skc_dport;
	unsigned int skc_rcv_saddr;
	unsigned short skc_family;
	unsigned int skc_reuse : 7;
	unsigned int skc_reuseport : 3;
	possible_net_t skc_net;
};
struct sock {
	struct {
		struct {
			int sk_rcvbuf;
		};
	};
	unsigned short sk_protocol;
	unsigned char sk_no_check_tx : 1;
	struct sock_common __sk_common;
};
struct inet_sock {
	char uc_ttl;
	struct sock sk;
};
struct socket {
	struct sock *sk;
	short type;
};
struct net_device {
	int ifindex;
	/* In the kernels it is unsigned, and was unsigned char before 6.9. */
	unsigned short operstate;
	char name[16];
	unsigned int mtu;
};
struct net {
	struct net_device *loopback_dev;
};
enum cgroup_subsys_id { no_such_cgrp_id, pids_cgrp_id = 40 };
enum pageflags { PG_writeback = 77 };
enum pid_type { PIDTYPE_TGID = 9 };
#pragma clang attribute pop
