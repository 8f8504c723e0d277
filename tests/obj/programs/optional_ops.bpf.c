/* struct_ops variables that are made only on demand, with a program of their own and one that they share. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock {
	int __sk_common;
} __attribute__((preserve_access_index));

struct tcp_congestion_ops {
	char name[16];
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
};

int started;

SEC("struct_ops") void BPF_PROG(start, struct sock *sk) { started++; }
SEC("struct_ops") __u32 BPF_PROG(threshold, struct sock *sk) { return 2; }
SEC("struct_ops") void BPF_PROG(avoid, struct sock *sk, __u32 ack, __u32 acked) {}
SEC("struct_ops") __u32 BPF_PROG(undo, struct sock *sk) { return 2; }

SEC(".struct_ops.link") struct tcp_congestion_ops always = {
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.name = "bee_always",
};

SEC("?.struct_ops.link") struct tcp_congestion_ops asked = {
	.init = (void *)start,
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.name = "bee_asked",
};

char LICENSE[] SEC("license") = "GPL";
