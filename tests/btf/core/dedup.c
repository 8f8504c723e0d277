// Deduplicates with libbpf: dedup OUTPUT BASE INPUT..., where BASE is "-" or what the output is split from.
#include <bpf/btf.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **argument)
{
	struct btf *base = strcmp(argument[2], "-") ? btf__parse(argument[2], NULL) : NULL;
	struct btf *all = base ? btf__new_empty_split(base) : btf__new_empty();
	for (int i = 3; i < count; i++) {
		struct btf *part = btf__parse(argument[i], NULL);
		if (!part || btf__add_btf(all, part) < 0)
			return 1;
		btf__free(part);
	}
	if (btf__dedup(all, NULL))
		return 2;
	__u32 size;
	const void *data = btf__raw_data(all, &size);
	FILE *file = fopen(argument[1], "wb");
	return fwrite(data, 1, size, file) != size || fclose(file);
}
