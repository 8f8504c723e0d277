/* First process of guests whose kernel has virtio-fs as modules: loads them, makes the host's file
 * system the root, and becomes the program that /command names. Linked statically.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static void check(int failed, const char *what)
{
	if (failed) {
		perror(what);
		exit(1);
	}
}

int main(void)
{
	char name[32], command[4096];
	int file;
	ssize_t length;

	for (int number = 0;; number++) {
		snprintf(name, sizeof(name), "/%d.ko", number);
		file = open(name, O_RDONLY);
		if (file < 0)
			break;
		check(syscall(SYS_finit_module, file, "", 0), name);
		close(file);
	}
	file = open("/command", O_RDONLY);
	length = read(file, command, sizeof(command) - 1);
	check(length <= 0, "/command");
	command[length] = 0;
	check(mount("rootfs", "/root", "virtiofs", 0, NULL), "virtiofs");
	check(chdir("/root"), "/root");
	check(mount(".", "/", NULL, MS_MOVE, NULL), "move");
	check(chroot("."), "chroot");
	execl(command, command, NULL);
	perror(command);
	return 1;
}
