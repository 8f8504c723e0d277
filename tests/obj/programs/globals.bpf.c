/* Global data of every section, subprograms static and global, callbacks, calls across sections. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile int limit = 10;
const volatile char greeting[8] = "hello";
int counter;
__u64 start = 0x1122334455667788ULL;
struct pair {
	int a;
	short b[2];
} pair = { .a = -5, .b = { 3, 4 } };
static int hidden_total;
int custom SEC(".data.custom") = 99;

static __attribute__((noinline)) int helper(int x)
{
	hidden_total += x;
	return hidden_total * 2;
}

__attribute__((noinline)) int exported(int x)
{
	return helper(x) + limit;
}

__hidden __attribute__((noinline)) int internal(int x)
{
	return x - 1;
}

static long step(__u32 index, void *data)
{
	*(__u64 *)data += index;
	return index >= 9;
}

SEC("socket") int first(struct __sk_buff *ctx)
{
	counter++;
	pair.b[1]++;
	return exported(counter) + custom;
}

SEC("?socket") int second(struct __sk_buff *ctx)
{
	__u64 sum = 0;

	bpf_loop(100, step, &sum, 0);
	return sum + internal(1) + greeting[0];
}

char LICENSE[] SEC("license") = "GPL";
