/* Records by a ring buffer and by a perf event array; a tail call and an inner map put in from outside. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	int number;
	char comm[16];
};

/* Keeps the type, which nothing else names, in BTF. */
struct event unused;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} buffers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} jumps SEC(".maps");

int number;

SEC("raw_tp/sys_enter") int send(void *ctx)
{
	struct event event = { .number = ++number };

	bpf_get_current_comm(event.comm, sizeof(event.comm));
	bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
	bpf_perf_event_output(ctx, &buffers, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}

SEC("socket") int jump(struct __sk_buff *ctx)
{
	bpf_tail_call(ctx, &jumps, 1);
	return 1;
}

SEC("socket") int target(struct __sk_buff *ctx) { return 7; }

char LICENSE[] SEC("license") = "GPL";
