/* What another object defines, used here: link_library.bpf.c has the other half. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct point {
	int x;
	int y;
	struct point *next;
};

/* Not the library's static variables, function and map of these names. */
static int total = 1000;
static const volatile int step = 7;
int own = 5;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, long);
} local SEC(".maps");

extern struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, int);
	__type(value, struct point);
} points SEC(".maps");

extern int shared;
extern struct point origin;
extern const int table[4];
extern int LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_HZ __kconfig __weak;
extern void bpf_rcu_read_lock(void) __ksym __weak;

int triple(int x);
long sum_points(struct point *p);
int version_of_library(void);

static __attribute__((noinline)) int helper(int x)
{
	total += x;
	return total;
}

/* Gives way to the library's. */
__weak __attribute__((noinline)) int preferred(void)
{
	return 1;
}

__weak int weak_value = 11;

SEC("socket") int calls(struct __sk_buff *ctx)
{
	return helper(step) + triple(own) + shared * 100000;
}

SEC("socket") int data(struct __sk_buff *ctx)
{
	int key = 3;
	struct point *p = bpf_map_lookup_elem(&points, &key);

	if (!p)
		return -1;
	p->x += origin.x;
	return sum_points(p) + table[2] + preferred() * 1000 + weak_value * 10000;
}

SEC("socket") int kernel(struct __sk_buff *ctx)
{
	return (LINUX_KERNEL_VERSION == version_of_library()) + (CONFIG_HZ > 0) * 2 + (bpf_rcu_read_lock != 0) * 4;
}

char LICENSE[] SEC("license") = "GPL";
