// A traced function that is left by an exception every second time: throws COUNT.
#include <cstdlib>
#include <stdexcept>

__attribute__((noinline)) long thrower(long n)
{
	asm volatile("" : "+r"(n));
	if (n % 2)
		throw std::runtime_error("odd");
	return n;
}

int main(int, char **argv)
{
	long caught = 0, count = std::atol(argv[1]);

	for (long i = 0; i < count; i++) {
		try {
			thrower(i);
		} catch (const std::runtime_error &) {
			caught++;
		}
	}
	return caught == count / 2 ? 0 : 3;
}
