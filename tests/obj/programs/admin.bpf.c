/* A program with maps of every shape that listings and dumps show. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct val {
	int a;
	char s[8];
	unsigned b : 3;
	unsigned c : 5;
	union {
		long x;
		char y;
	};
	enum color { RED, GREEN } e;
	int *p;
	short arr[3];
	_Bool ok;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10);
	__type(key, int);
	__type(value, struct val);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, int);
	__type(value, long);
} per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 3);
	__uint(key_size, 2);
	__uint(value_size, 4);
} plain SEC(".maps");

int counter = 5;
const volatile int limit = 7;
long total;

static __attribute__((noinline)) int weigh(int a)
{
	return a * 3 + counter;
}

SEC("raw_tracepoint/sys_enter")
int watch(void *ctx)
{
	int key = 0;
	struct val value = {.a = 1};
	long *count;

	bpf_map_update_elem(&table, &key, &value, 0);
	count = bpf_map_lookup_elem(&per_cpu, &key);
	if (count)
		(*count)++;
	bpf_map_delete_elem(&plain, &key);
	total += weigh(limit);
	return 0;
}

SEC("socket")
int length(struct __sk_buff *skb)
{
	return skb->len;
}

char LICENSE[] SEC("license") = "GPL";
