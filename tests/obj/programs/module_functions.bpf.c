/* Functions of the module nf_conntrack, called from a program; a weak one of a module that is not there. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct nf_conn {
	unsigned long status;
};
struct bpf_ct_opts___mine {
	int netns_id, error;
	unsigned char l4proto, dir, reserved[2];
};
extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *, struct bpf_sock_tuple *, __u32,
					 struct bpf_ct_opts___mine *, __u32) __ksym;
extern void bpf_ct_release(struct nf_conn *) __ksym;
extern int bpf_no_module_has_this(void) __ksym __weak;

int error, found;

SEC("tc") int lookup(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {.ipv4 = {.saddr = 1, .daddr = 2, .sport = 3, .dport = 4}};
	struct bpf_ct_opts___mine options = {.netns_id = -1, .l4proto = skb->mark};
	struct nf_conn *ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &options, sizeof(options));

	found = ct != 0;
	error = options.error;
	if (ct)
		bpf_ct_release(ct);
	if (bpf_no_module_has_this)
		return bpf_no_module_has_this();
	return 7;
}

char LICENSE[] SEC("license") = "GPL";
