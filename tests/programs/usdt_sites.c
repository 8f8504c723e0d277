/* USDT probes of every shape of argument; each line of input (a letter) fires some of them. */
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>
#include <stdint.h>
#include <stdio.h>

__extension__ unsigned short bee_guarded_semaphore __attribute__((section(".probes")));
__extension__ unsigned short bee_shapes_semaphore __attribute__((section(".probes")));
__extension__ unsigned short bee_pair_semaphore __attribute__((section(".probes")));
__extension__ unsigned short bee_none_semaphore __attribute__((section(".probes")));

volatile int32_t in_memory = -77;
volatile uint8_t small = 200;

__attribute__((noinline)) void shapes(int64_t a, uint32_t b, int16_t c, uint8_t d, int8_t e)
{
	volatile int64_t local = a * 2;

#ifdef WITHOUT_NAMES /* libbpf 1.1 knows no operands like in_memory(%rip) */
	STAP_PROBE7(bee, shapes, a, b, c, d, e, -9, local);
#else
	STAP_PROBE8(bee, shapes, a, b, c, d, e, -9, local, in_memory);
#endif
}

__attribute__((noinline)) void pair(long a, long b)
{
	STAP_PROBE2(bee, pair, a, b);
}

int main(void)
{
	int letter;

	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while ((letter = getchar()) != EOF) {
		switch (letter) {
		case 's':
			shapes(0x1122334455667788, 0xfffffff0, -300, small, -5);
			break;
		case 'p':
			pair(3, 4);
			STAP_PROBE2(bee, pair, 5L, 6L);
			STAP_PROBE2(bee, pair, 7L, 8L);
			break;
		case 'n':
			STAP_PROBE(bee, none);
			break;
		case 'g':
			if (bee_guarded_semaphore)
				STAP_PROBE1(bee, guarded, 42L);
			break;
		default:
			continue;
		}
		printf("%c %d\n", letter, bee_guarded_semaphore);
	}
	return 0;
}
