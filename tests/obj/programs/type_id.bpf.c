/* The id of one of the object's own types, which is another one after linking. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct wanted {
	long number;
};

SEC("socket") int id_of_wanted(void *ctx)
{
	return bpf_core_type_id_local(struct wanted);
}
