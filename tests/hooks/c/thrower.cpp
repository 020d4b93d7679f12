// Exceptions that pass through a hooked function.
#include <stdexcept>

#define NOINLINE __attribute__((noinline))

extern "C" {
NOINLINE int refuse(int n)
{
	if (n > 10) throw std::out_of_range("more than 10");
	return n + 1;
}
NOINLINE int through(int n) { return refuse(n) * 2; }
int call_refuse(int n)
{
	try {
		return through(n);
	} catch (const std::exception &) {
		return -n;
	}
}
}
