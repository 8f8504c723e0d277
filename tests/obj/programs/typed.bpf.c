/* Types that the kernel looks into: pointers to its structs kept in a map, a section of constants. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define __untrusted __attribute__((btf_type_tag("kptr_untrusted")))

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

struct seen {
	struct task_struct __untrusted *task;
	int count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct seen);
} seen SEC(".maps");

const volatile int factors[4] SEC(".rodata.tables") = { 1, 10, 100, 1000 };
int result;

SEC("raw_tp/sys_enter") int remember(void *ctx)
{
	struct seen *s;
	struct task_struct *task;
	int key = 0;

	s = bpf_map_lookup_elem(&seen, &key);
	if (!s)
		return 0;
	s->task = bpf_get_current_task_btf();
	s->count += factors[2];
	task = s->task;
	result = task ? task->pid : -1;
	return s->count;
}

char LICENSE[] SEC("license") = "GPL";
