/* A third object to link: it expects of the kernel what link_main.bpf.c does, and replaces nothing. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int CONFIG_HZ __kconfig;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig __weak;
extern void bpf_rcu_read_lock(void) __ksym __weak;

SEC("socket") int third(struct __sk_buff *ctx)
{
	return (bpf_rcu_read_lock != 0) + (CONFIG_HZ > 0) * 2 + (CONFIG_DEFAULT_HOSTNAME[15] == 0) * 4;
}

char LICENSE[] SEC("license") = "GPL";
