// Programs for comparing verdicts: what compilers make of ordinary sources, and mistakes in them.
// Names that end in "_bad" must be refused.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct locked {
	struct bpf_spin_lock lock;
	int count;
	long data[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10);
	__type(key, int);
	__type(value, struct locked);
} locked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 10);
	__type(key, int);
	__type(value, long);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10);
	__type(key, long);
	__type(value, long);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, int);
	__type(value, int);
} programs SEC(".maps");

const volatile int limit = 10;
int counter;
long buffer[64];

static __noinline int sum(int *p, int n)
{
	int s = 0;

	for (int i = 0; i < n && i < 16; i++)
		s += p[i & 3];
	return s;
}

__noinline int larger(int a, int b)
{
	return a > b ? a : b;
}

SEC("socket")
int static_function(struct __sk_buff *skb)
{
	int a[4] = {1, 2, 3, skb->len};

	return sum(a, skb->mark);
}

SEC("socket")
int global_function(struct __sk_buff *skb)
{
	return larger(skb->len, skb->mark) & 7;
}

static long add(__u32 i, void *ctx)
{
	long *p = ctx;

	*p += i;
	if (*p > 1000)
		return 1;
	buffer[i & 63] = i;
	return 0;
}

SEC("socket")
int loop(struct __sk_buff *skb)
{
	long s = 0;

	bpf_loop(skb->len, add, &s, 0);
	return s;
}

struct position {
	int i;
	int n;
};

static long fill(__u32 i, void *ctx)
{
	struct position *p = ctx;

	if (p->i >= 64 || p->i < 0)
		return 1;
	buffer[p->i] = i;
	p->i++;
	return 0;
}

SEC("socket")
int loop_with_index(struct __sk_buff *skb)
{
	struct position p = {};

	bpf_loop(100, fill, &p, 0);
	return p.i;
}

static long fill_unchecked(__u32 i, void *ctx)
{
	struct position *p = ctx;

	buffer[p->i] = i;
	p->i++;
	return 0;
}

SEC("socket")
int loop_with_index_bad(struct __sk_buff *skb)
{
	struct position p = {};

	bpf_loop(100, fill_unchecked, &p, 0);
	return p.i;
}

static long each(void *map, int *key, long *value, void *ctx)
{
	*(long *)ctx += *value + *key;
	*value = 0;
	return 0;
}

SEC("socket")
int for_each(struct __sk_buff *skb)
{
	long s = 0;

	bpf_for_each_map_elem(&array, each, &s, 0);
	return s;
}

SEC("socket")
int nested_loops(struct __sk_buff *skb)
{
	long n = 0;

	for (int i = 0; i < 20; i++)
		for (int j = 0; j < 20; j++) {
			if ((i * j + skb->len) & 1)
				n++;
			buffer[(i + j) & 63] = n;
		}
	return n;
}

SEC("socket")
int stack_index(struct __sk_buff *skb)
{
	char x[64] = {};
	unsigned int i = skb->len;

	if (i < 64)
		x[i] = 1;
	return x[skb->mark & 63];
}

SEC("socket")
int stack_index_bad(struct __sk_buff *skb)
{
	char x[64] = {};
	unsigned int i = skb->len;

	if (i < 96)
		x[i] = 1;
	return x[skb->mark & 63];
}

SEC("socket")
int while_loop(struct __sk_buff *skb)
{
	unsigned int i = 0;

	while (i < limit && i < 64) {
		buffer[i] = i;
		i++;
	}
	return i;
}

SEC("tc")
int spin_lock(struct __sk_buff *skb)
{
	int k = 0;
	struct locked *v = bpf_map_lookup_elem(&locked, &k);

	if (!v)
		return 0;
	bpf_spin_lock(&v->lock);
	v->count++;
	bpf_spin_unlock(&v->lock);
	return v->count;
}

SEC("tc")
int spin_lock_bad(struct __sk_buff *skb)
{
	int k = 0;
	struct locked *v = bpf_map_lookup_elem(&locked, &k);

	if (!v)
		return 0;
	bpf_spin_lock(&v->lock);
	v->count++;
	return v->count;
}

SEC("socket")
int spin_lock_in_a_filter_bad(struct __sk_buff *skb)
{
	int k = 0;
	struct locked *v = bpf_map_lookup_elem(&locked, &k);

	return v ? v->count : 0;
}

SEC("socket")
int reserve(struct __sk_buff *skb)
{
	long *e = bpf_ringbuf_reserve(&ring, 16, 0);

	if (!e)
		return 0;
	e[0] = skb->len;
	e[1] = bpf_ktime_get_ns();
	if (e[0] > 5)
		bpf_ringbuf_discard(e, 0);
	else
		bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("socket")
int reserve_bad(struct __sk_buff *skb)
{
	long *e = bpf_ringbuf_reserve(&ring, 16, 0);

	if (!e)
		return 0;
	if (skb->len > 5)
		return 1;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("socket")
int tail_call(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &programs, 1);
	return 0;
}

SEC("xdp")
int parse(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	unsigned int length = ip->ihl * 4;

	if (length < 20)
		return XDP_DROP;
	struct tcphdr *tcp = (void *)ip + length;

	if ((void *)(tcp + 1) > end)
		return XDP_DROP;
	long key = tcp->dest, one = 1;
	long *value = bpf_map_lookup_elem(&hash, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&hash, &key, &one, BPF_ANY);
	return XDP_PASS;
}

SEC("xdp")
int parse_bad(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + 14;

	if (data + 14 > end)
		return 1;
	return ip->protocol;
}

SEC("xdp")
int packet_loop(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int s = 0;

	for (int i = 0; i < 64; i++) {
		if (data + i + 1 > end)
			break;
		s += data[i];
	}
	return s & 3;
}

SEC("tc")
int packet_store(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + 20 > end)
		return TC_ACT_OK;
	*(char *)(data + 3) = 1;
	bpf_skb_store_bytes(skb, 0, "abcd", 4, 0);
	return TC_ACT_OK;
}

SEC("tc")
int packet_store_bad(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + 20 > end)
		return TC_ACT_OK;
	bpf_skb_store_bytes(skb, 0, "abcd", 4, 0);
	*(char *)(data + 3) = 1;
	return TC_ACT_OK;
}

SEC("kprobe/x")
int string_length(void *ctx)
{
	char b[64];
	long n = bpf_probe_read_kernel_str(b, sizeof(b), ctx);

	if (n < 0)
		return 0;
	if (n > 0 && n < 64)
		b[n] = 'x';
	bpf_ringbuf_output(&ring, b, n & 63, 0);
	return 0;
}

SEC("kprobe/x")
int compare(void *ctx)
{
	char a[16];

	bpf_get_current_comm(a, 16);
	for (int i = 0; i < 16; i++) {
		if (!a[i])
			break;
		if (a[i] == 'x')
			counter++;
	}
	return 0;
}

#define BIT(n)          \
	if (v & (1L << n)) \
		r += n * v;

SEC("tracepoint/a/b")
int many_branches(void *ctx)
{
	long v = *(long *)(ctx + 8), r = 0;
	int k = 0;
	long *p;

	BIT(0) BIT(1) BIT(2) BIT(3) BIT(4) BIT(5) BIT(6) BIT(7) BIT(8) BIT(9) BIT(10) BIT(11)
	BIT(12) BIT(13) BIT(14) BIT(15) BIT(16) BIT(17) BIT(18) BIT(19) BIT(20) BIT(21) BIT(22)
	p = bpf_map_lookup_elem(&array, &k);
	if (p)
		*p = r;
	return 0;
}

SEC("tracepoint/a/b")
int print(void *ctx)
{
	bpf_printk("a %d %s", 1, "x");
	return 0;
}
