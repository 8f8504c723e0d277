/* A program for each kind of thing that programs are attached to; each counts its hits and lets pass. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

long hits[16];
long cookie;

static __always_inline int hit(int number, int result)
{
	__sync_fetch_and_add(&hits[number], 1);
	return result;
}

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, int);
	__type(value, int);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, int);
	__type(value, long);
} table SEC(".maps");

SEC("xdp") int device(struct xdp_md *ctx) { return hit(0, XDP_PASS); }
SEC("tcx/ingress") int arriving(struct __sk_buff *ctx) { return hit(1, -1); }
SEC("tcx/egress") int leaving(struct __sk_buff *ctx) { return hit(2, -1); }
SEC("cgroup/connect4") int connecting(struct bpf_sock_addr *ctx) { return hit(3, 1); }
SEC("cgroup_skb/egress") int sending(struct __sk_buff *ctx) { return hit(4, 1); }
SEC("sockops") int operations(struct bpf_sock_ops *ctx) { return hit(5, 1); }
SEC("sk_lookup") int lookup(struct bpf_sk_lookup *ctx) { return hit(6, SK_PASS); }
SEC("netfilter") int filter(void *ctx) { return hit(7, 1); }
SEC("sk_msg") int message(struct sk_msg_md *ctx) { return hit(8, SK_PASS); }
SEC("perf_event") int sample(void *ctx)
{
	cookie = bpf_get_attach_cookie(ctx);
	return hit(9, 0);
}
SEC("flow_dissector") int dissect(struct __sk_buff *ctx) { return hit(10, BPF_OK); }
SEC("classifier") int undirected(struct __sk_buff *ctx) { return hit(11, 0); }
SEC("uprobe") int function(void *ctx)
{
	cookie = bpf_get_attach_cookie(ctx);
	return hit(12, 0);
}
SEC("tp") int event(void *ctx)
{
	cookie = bpf_get_attach_cookie(ctx);
	return hit(13, 0);
}
SEC("raw_tp") int raw(void *ctx)
{
	cookie = bpf_get_attach_cookie(ctx);
	return hit(14, 0);
}

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	int *key;
	long *value;
} __attribute__((preserve_access_index));

SEC("iter/bpf_map_elem") int print(struct bpf_iter__bpf_map_elem *ctx)
{
	int *key = ctx->key;
	long *value = ctx->value;

	if (key && value)
		BPF_SEQ_PRINTF(ctx->meta->seq, "%d=%ld\n", *key, *value);
	return 0;
}

SEC("uprobe.session") int session(void *ctx) { return hit(15, 0); }

struct task_struct {
	int pid, tgid;
} __attribute__((preserve_access_index));
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));

SEC("iter/task") int tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		BPF_SEQ_PRINTF(ctx->meta->seq, "%d\n", task->tgid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
