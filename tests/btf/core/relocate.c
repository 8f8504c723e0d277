// Relocates an object against another kernel's BTF with libbpf, and prints each program's instructions
// in hex: relocate OBJECT BTF. Whether the kernel then takes the programs does not matter.
#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>

static int say_nothing(enum libbpf_print_level level, const char *text, va_list arguments) { return 0; }

int main(int count, char **argument)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .btf_custom_path = argument[2]);
	libbpf_set_print(say_nothing);
	struct bpf_object *object = bpf_object__open_file(argument[1], &options);
	if (!object)
		return 1;
	bpf_object__load(object);
	struct bpf_program *program;
	bpf_object__for_each_program(program, object) {
		printf("%s ", bpf_program__name(program));
		const unsigned char *bytes = (const void *)bpf_program__insns(program);
		for (size_t i = 0; i < 8 * bpf_program__insn_cnt(program); i++)
			printf("%02x", bytes[i]);
		printf("\n");
	}
	bpf_object__close(object);
	return 0;
}
