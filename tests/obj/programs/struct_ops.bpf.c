/* TCP congestion control in BPF: registered by an update of the map, and by a link. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock {
	int __sk_common;
} __attribute__((preserve_access_index));

/* A flavour: of the kernel's struct tcp_sock, this much. */
struct tcp_sock___small {
	__u32 snd_cwnd;
} __attribute__((preserve_access_index));

/* The kernel's struct as an object may know it: members by name, in another order. */
struct tcp_congestion_ops {
	char name[16];
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
};

int sockets;
int halvings;

SEC("struct_ops/start") void BPF_PROG(start, struct sock *sk)
{
	__sync_fetch_and_add(&sockets, 1);
}

SEC("struct_ops/threshold") __u32 BPF_PROG(threshold, struct sock *sk)
{
	const struct tcp_sock___small *tp = (const void *)sk;

	__sync_fetch_and_add(&halvings, 1);
	return tp->snd_cwnd > 4 ? tp->snd_cwnd / 2 : 2;
}

SEC("struct_ops/avoid") void BPF_PROG(avoid, struct sock *sk, __u32 ack, __u32 acked)
{
}

SEC("struct_ops/undo") __u32 BPF_PROG(undo, struct sock *sk)
{
	return ((const struct tcp_sock___small *)(const void *)sk)->snd_cwnd;
}

SEC(".struct_ops") struct tcp_congestion_ops plain = {
	.init = (void *)start,
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.name = "bee_plain",
};

SEC(".struct_ops.link") struct tcp_congestion_ops linked = {
	.init = (void *)start,
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.name = "bee_linked",
};

char LICENSE[] SEC("license") = "GPL";
