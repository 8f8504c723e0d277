/* Data of which user space sees nothing: a lock, and the variable it guards. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static struct bpf_spin_lock lock SEC(".data.guarded");
static int guarded SEC(".data.guarded") = 7;

SEC("tc") int count(struct __sk_buff *skb)
{
	bpf_spin_lock(&lock);
	int number = ++guarded;
	bpf_spin_unlock(&lock);
	return number;
}

char LICENSE[] SEC("license") = "GPL";
