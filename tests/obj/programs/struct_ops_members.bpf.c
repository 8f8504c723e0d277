/* TCP congestion control, its struct as other kernels may have it; one of them fits, the others are optional. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock {
	int __sk_common;
};

#define MEMBERS \
	__u32 (*ssthresh)(struct sock *sk); \
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked); \
	__u32 (*undo_cwnd)(struct sock *sk); \
	void (*init)(struct sock *sk);

struct tcp_congestion_ops___newer {
	MEMBERS
	void (*future)(struct sock *sk);
	__u64 more;
	void (*release)(struct sock *sk);
	char name[16];
};

struct tcp_congestion_ops___wide {
	MEMBERS
	char name[20];
};

struct tcp_congestion_ops___pointer {
	MEMBERS
	void (*flags)(struct sock *sk);
};

struct tcp_congestion_ops___bits {
	MEMBERS
	__u32 flags : 4;
};

SEC("struct_ops") void BPF_PROG(start, struct sock *sk) {}
SEC("struct_ops") __u32 BPF_PROG(threshold, struct sock *sk) { return 2; }
SEC("struct_ops") void BPF_PROG(avoid, struct sock *sk, __u32 ack, __u32 acked) {}
SEC("struct_ops") __u32 BPF_PROG(undo, struct sock *sk) { return 2; }
SEC("?struct_ops") void BPF_PROG(end, struct sock *sk) {}
SEC("socket") int other(void *ctx) { return 0; }

#define NEEDED .ssthresh = (void *)threshold, .cong_avoid = (void *)avoid, .undo_cwnd = (void *)undo

SEC(".struct_ops.link") struct tcp_congestion_ops___newer fits = {
	NEEDED, .init = (void *)start, .release = (void *)end, .name = "bee_fits",
};
SEC("?.struct_ops") struct tcp_congestion_ops___newer number = { NEEDED, .more = 1 };
SEC("?.struct_ops") struct tcp_congestion_ops___newer function = { NEEDED, .future = (void *)start };
SEC("?.struct_ops") struct tcp_congestion_ops___newer twice = { NEEDED, .release = (void *)start };
SEC("?.struct_ops") struct tcp_congestion_ops___newer stranger = { NEEDED, .init = (void *)other };
SEC("?.struct_ops") struct tcp_congestion_ops___wide wide = { NEEDED };
SEC("?.struct_ops") struct tcp_congestion_ops___pointer pointer = { NEEDED };
SEC("?.struct_ops") struct tcp_congestion_ops___bits bits = { NEEDED };

char LICENSE[] SEC("license") = "GPL";
