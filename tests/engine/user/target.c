/* A program whose traced calls are known: target MODE COUNT [MILLISECONDS], which it then sleeps. */
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static jmp_buf out;

__attribute__((noinline)) long work(long n)
{
	__asm__ volatile("" : "+r"(n));
	return n * 2;
}

__attribute__((noinline)) long recurse(long n)
{
	long below = n > 0 ? recurse(n - 1) : 0;

	__asm__ volatile("" : "+r"(below));
	return below + 1;
}

__attribute__((noinline)) long jumper(long n)
{
	__asm__ volatile("" : "+r"(n));
	if (n % 2)
		longjmp(out, 1);
	return n;
}

static void *run(void *count)
{
	for (long i = 0; i < (long)count; i++)
		work(i);
	return NULL;
}

int main(int argc, char **argv)
{
	long count = argc > 2 ? atol(argv[2]) : 0;
	pthread_t threads[4];

	if (!strcmp(argv[1], "work")) {
		run((void *)count);
	} else if (!strcmp(argv[1], "recurse")) {
		if (recurse(count) != count + 1)
			return 3;
	} else if (!strcmp(argv[1], "jump")) {
		for (volatile long i = 0; i < count; i++)
			if (!setjmp(out))
				jumper(i);
	} else if (!strcmp(argv[1], "threads")) {
		for (int i = 0; i < 4; i++)
			pthread_create(&threads[i], NULL, run, (void *)count);
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
	} else if (!strcmp(argv[1], "fork")) {
		int status;

		run((void *)count);
		if (fork() == 0) {
			run((void *)count);
			_exit(0);
		}
		wait(&status);
		if (status)
			return 4;
	} else if (!strcmp(argv[1], "wait")) {
		char line[8];

		puts("ready");
		fflush(stdout);
		while (fgets(line, sizeof(line), stdin)) {
			run((void *)count);
			puts("done");
			fflush(stdout);
		}
	} else {
		return 2;
	}
	if (argc > 3)
		usleep(atol(argv[3]) * 1000);
	return 0;
}
