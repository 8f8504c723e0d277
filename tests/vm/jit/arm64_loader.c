// Runs machine code sent to it: the other side of test_jit_arm64.py.
//
// It writes the addresses of `mix`, a function of five arguments, and of `programs`, a table. Then for each request, u32 numbers of
// code and memory bytes followed by both, it writes the u64 result and the memory. The first request is
// code alone: the function that runs programs.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static uint64_t mix(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	return a + 10 * b + 100 * c + 1000 * d + 10000 * e;
}

static uint64_t programs[8];

static void take(void *to, size_t size)
{
	if (size && fread(to, size, 1, stdin) != 1)
		exit(0);
}

static void give(const void *from, size_t size)
{
	if (size)
		fwrite(from, size, 1, stdout);
	fflush(stdout);
}

static void *take_code(uint32_t size)
{
	char *code = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	take(code, size);
	mprotect(code, size, PROT_READ | PROT_EXEC);
	__builtin___clear_cache(code, code + size);
	return code;
}

int main(void)
{
	typedef uint64_t (*invoker)(void *, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
	uint64_t addresses[] = { (uint64_t)mix, (uint64_t)programs };
	invoker invoke = NULL;

	give(addresses, sizeof addresses);
	for (;;) {
		uint32_t sizes[2];
		uint64_t result;
		char *memory;
		void *code;

		take(sizes, sizeof sizes);
		code = take_code(sizes[0]);
		if (!invoke) {
			invoke = (invoker)code;
			continue;
		}
		memory = malloc(sizes[1] + 1);
		take(memory, sizes[1]);
		result = invoke(code, (uint64_t)memory, sizes[1], 1, (uint64_t)memory, sizes[1]);
		give(&result, sizeof result);
		give(memory, sizes[1]);
		free(memory);
		munmap(code, sizes[0]);
	}
}
