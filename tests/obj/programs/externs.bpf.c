/* What an object asks of the kernel: configuration, variables, functions, present and missing. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int LINUX_KERNEL_VERSION __kconfig;
extern unsigned long CONFIG_HZ __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig __weak;
extern enum libbpf_tristate CONFIG_BPF_JIT __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig __weak;
extern int CONFIG_NO_SUCH_THING __kconfig __weak;

extern const void bpf_prog_active_no_such __ksym __weak;
extern const int bpf_prog_active __ksym __weak;

int version, jit, missing, no_symbol;
unsigned long hz;
_Bool has_bpf;
char hostname[16];

SEC("socket") int values(struct __sk_buff *ctx)
{
	version = LINUX_KERNEL_VERSION;
	hz = CONFIG_HZ;
	has_bpf = CONFIG_BPF_SYSCALL;
	jit = CONFIG_BPF_JIT;
	missing = CONFIG_NO_SUCH_THING;
	for (int i = 0; i < 16; i++)
		hostname[i] = CONFIG_DEFAULT_HOSTNAME[i];
	no_symbol = &bpf_prog_active_no_such == 0;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
