/* Attach a USDT program by libbpf, and print how it describes the arguments of the first places. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct bpf_object *object = bpf_object__open(argv[1]);
	struct bpf_program *program = bpf_object__find_program_by_name(object, "any");
	unsigned char value[208];
	int descriptor;

	if (bpf_object__load(object) ||
	    !bpf_program__attach_usdt(program, -1, argv[2], "bee", argv[3], NULL))
		return 1;
	descriptor = bpf_object__find_map_fd_by_name(object, "__bpf_usdt_specs");
	for (int key = 0; key < 4; key++) {
		if (bpf_map_lookup_elem(descriptor, &key, value))
			return 1;
		for (int i = 0; i < 208; i++)
			printf("%02x", value[i]);
		puts("");
	}
	return 0;
}
