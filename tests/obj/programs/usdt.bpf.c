/* Arguments, cookies and argument counts of USDT probes, as libbpf's usdt.bpf.h reads them. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

long seen[16], hits, count, cookie, failed;

/* bpf_usdt_arg wants a constant number below the verifier's eyes: a loop over a global bound does too. */
static __always_inline int remember(struct pt_regs *ctx)
{
	count = bpf_usdt_arg_cnt(ctx);
	cookie = bpf_usdt_cookie(ctx);
	for (int i = 0; i < 12; i++) {
		long value;

		if (bpf_usdt_arg(ctx, i, &value) < 0 && i < count)
			failed++;
		seen[i] = value;
	}
	__sync_fetch_and_add(&hits, 1);
	return 0;
}

SEC("usdt") int any(struct pt_regs *ctx) { return remember(ctx); }

long first, second;

SEC("?usdt.s//nowhere/at/all:bee:pair") int BPF_USDT(pair, long a, long b)
{
	first = a;
	second = b;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
