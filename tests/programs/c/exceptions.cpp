// C++ exceptions: through frames of a library, of libc's qsort, nested, rethrown, in threads.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct Base { virtual ~Base() {} virtual int number() const { return 1; } };
struct Derived : Base { int number() const override { return 2; } };

void throws_type(int kind, int *unwound);
void calls_back(void (*function)(int), int n, int *unwound);

static int unwound;

static void deep(int n)
{
    if (n == 0)
        throw std::out_of_range("bottom");
    calls_back(deep, n - 1, &unwound);
}

static void catch_all_kinds()
{
    for (int kind = 0; kind < 4; kind++) {
        try {
            throws_type(kind, &unwound);
        } catch (int number) {
            std::printf("int %d\n", number);
        } catch (const std::exception &error) {
            std::printf("exception %s\n", error.what());
        } catch (const Base &base) {
            std::printf("base %d %d\n", base.number(), dynamic_cast<const Derived *>(&base) != nullptr);
        } catch (...) {
            std::printf("something else\n");
        }
    }
}

static void nested()
{
    try {
        try {
            deep(50);
        } catch (const std::exception &) {
            std::throw_with_nested(std::runtime_error("outer"));
        }
    } catch (const std::exception &error) {
        std::printf("%s\n", error.what());
        try {
            std::rethrow_if_nested(error);
        } catch (const std::exception &inner) {
            std::printf("nested %s\n", inner.what());
        }
    }
}

static int compare(const void *, const void *) { throw std::string("from qsort"); }

int main()
{
    catch_all_kinds();
    nested();
    int numbers[] = {3, 1, 2};
    try {
        std::qsort(numbers, 3, sizeof *numbers, compare);
    } catch (const std::string &text) {
        std::printf("%s\n", text.c_str());
    }
    try {
        std::vector<int>(3).at(7);
    } catch (const std::out_of_range &) {
        std::printf("out of range\n");
    }
    std::vector<std::thread> threads;
    int caught[4] = {};
    for (int i = 0; i < 4; i++)
        threads.emplace_back([i, &caught] {
            int ignored = 0;
            for (int n = 0; n < 200; n++)
                try {
                    throws_type(n % 4, &ignored);
                } catch (...) {
                    caught[i]++;
                }
        });
    for (auto &thread : threads)
        thread.join();
    std::printf("%d %d %d %d, unwound %d\n", caught[0], caught[1], caught[2], caught[3], unwound);
    std::set_terminate([] {
        std::printf("terminating\n");
        std::fflush(stdout);
        std::_Exit(0);
    });
    throw 1;
}
