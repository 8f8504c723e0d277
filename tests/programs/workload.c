/* A process whose every probe fires a number of times that the test knows.
 *
 * workload N        N rounds: one getppid(2), one call of work(i), one hit of each USDT place
 * workload N wait   the same after a line on standard input; prints work's address first
 *
 * The USDT notes are written here, not by sys/sdt.h, so that the places, their operands and the semaphore
 * are exactly these: test:plain at two places with different operands, test:counted with a semaphore.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((section(".probes"))) volatile unsigned short test_counted_semaphore;

#define NOTE(name, semaphore, args)                                                                      \
	"990: nop\n"                                                                                     \
	".pushsection .note.stapsdt,\"\",\"note\"\n"                                                     \
	".balign 4\n.4byte 992f-991f, 994f-993f, 3\n"                                                    \
	"991: .asciz \"stapsdt\"\n992: .balign 4\n"                                                      \
	"993: .8byte 990b, _.stapsdt.base, " semaphore "\n"                                              \
	".asciz \"test\"\n.asciz \"" name "\"\n.asciz \"" args "\"\n994: .balign 4\n"                    \
	".popsection\n"                                                                                  \
	".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"  \
	".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.popsection\n.endif\n"

long total;

__attribute__((noinline)) long work(long i, const char *text)
{
	total += i + text[0];
	return i * 2;
}

/* noclone: the same place must not come twice. */
__attribute__((noinline, noclone)) static void fire(long i, int negative, short *table)
{
	__asm__ volatile(NOTE("plain", "0", "8@%0 -4@%1 4@$7") ::"r"(i), "r"(negative));
	__asm__ volatile(NOTE("plain", "0", "8@%0 -4@%1 4@$7") ::"r"(i), "m"(negative));
	__asm__ volatile(NOTE("counted", "test_counted_semaphore", "-2@%0 8@%1") ::"m"(table[1]), "r"(i));
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1;
	short table[] = {0, -3, 0};

	if (argc > 2) {
		char line[16];
		printf("%p %p\n", (void *)work, (void *)&test_counted_semaphore);
		fflush(stdout);
		if (!fgets(line, sizeof line, stdin))
			return 1;
	}
	for (long i = 0; i < n; i++) {
		syscall(SYS_getppid);
		work(i, "hello");
		fire(i, (int)-i, table);
	}
	if (argc > 2) {
		char line[16];
		printf("done %d\n", test_counted_semaphore);
		fflush(stdout);
		if (!fgets(line, sizeof line, stdin))
			return 1;
	}
	return total == 0x7fffffff;
}
