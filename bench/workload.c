/* A process that makes a known number of cheap system calls or mallocs: workload KIND COUNT [PER_SECOND]. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc > 2 ? atol(argv[2]) : 0;
	long rate = argc > 3 ? atol(argv[3]) : 0;
	struct timespec start, end, now;
	void *volatile block; /* so that the pair of calls is not optimised away */

	if (count <= 0)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (long i = 0; i < count; i++) {
		if (!strcmp(argv[1], "getppid"))
			syscall(SYS_getppid);
		else if (!strcmp(argv[1], "open"))
			close(open("/etc/hostname", O_RDONLY));
		else if (!strcmp(argv[1], "malloc"))
			free(block = malloc(i % 4096));
		else
			return 1;
		/* Paced by spinning, in portions small enough for any ring buffer. */
		while (rate && i % 64 == 0) {
			clock_gettime(CLOCK_MONOTONIC, &now);
			if ((now.tv_sec - start.tv_sec) + (now.tv_nsec - start.tv_nsec) / 1e9 >= (double)i / rate)
				break;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.1f\n", ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / count);
	return 0;
}
