/* The definitions that link_main.bpf.c declares. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct point {
	int x;
	int y;
	struct point *next;
};

static int total = 50;
static const volatile char padding[3] = "ab";
static const volatile int step = 9;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, int);
	__type(value, struct point);
} points SEC(".maps");

static struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, int);
} local SEC(".maps");

int shared = 4;
struct point origin = { .x = 20, .y = 30 };
const int table[4] = { 1, 2, 3, 4 };
int weak_value = 22;

extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_BPF __kconfig;

static __attribute__((noinline)) int helper(int x)
{
	int key = 0, *found = bpf_map_lookup_elem(&local, &key);

	total += x + padding[1];
	if (found)
		*found = total;
	return total + step;
}

__hidden __attribute__((noinline)) int triple(int x)
{
	shared++;
	return helper(3 * x);
}

__hidden __attribute__((noinline)) long sum_points(struct point *p)
{
	return p->x + p->y + origin.y;
}

__attribute__((noinline)) int preferred(void)
{
	return 2;
}

__attribute__((noinline)) int version_of_library(void)
{
	return CONFIG_BPF ? LINUX_KERNEL_VERSION : 0;
}

SEC("socket") int fill(struct __sk_buff *ctx)
{
	struct point p = { .x = 1, .y = 2 };
	int key = 3;

	return bpf_map_update_elem(&points, &key, &p, 0);
}

char LICENSE[] SEC("license") = "GPL";
