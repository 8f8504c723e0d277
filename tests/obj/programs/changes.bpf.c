/* What can be changed between opening and loading: maps of every description, variables of every type. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum colour { RED, GREEN = 7, BLUE = 1 << 20 };

struct rule {
	enum colour colour;
	char name[8];
	struct {
		__u16 port;
		__s8 weight;
	} where[2];
	_Bool on;
};

const volatile struct rule rules[2];
const volatile enum colour colour = GREEN;
const volatile __u32 limits[4] = { 1, 2, 3, 4 };
const volatile _Bool on;
const volatile long long big;
const volatile unsigned char bytes[6];
struct rule last;
struct {
	unsigned int low : 3;
	int middle : 7;
	unsigned long long high : 40;
} packed = { 1, -2, 3 };
int table[3] SEC(".data.custom") = { 1, 2, 3 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, int);
	__type(value, long);
} counts SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, int);
} small SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, int);
	__array(values, struct inner);
} outer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, int);
	__type(value, int);
} wide SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__type(value, int);
	__uint(map_extra, 3);
} filter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, int);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} kept SEC(".maps");

SEC("socket") int sum(struct __sk_buff *ctx)
{
	int key = 1;
	long one = rules[1].where[1].port + rules[1].where[0].weight;

	last = rules[1];
	packed.middle--;
	packed.high += packed.low;
	bpf_map_update_elem(&counts, &key, &one, 0);
	return limits[3] + colour + on + table[2] + (big > 0) + bytes[5];
}

char LICENSE[] SEC("license") = "GPL";
