// Throws across the border of a library.
#include <stdexcept>
#include <string>

struct Base { virtual ~Base() {} virtual int number() const { return 1; } };
struct Derived : Base { int number() const override { return 2; } };
struct Guard { int *counter; ~Guard() { ++*counter; } };

void throws_type(int kind, int *unwound)
{
    Guard guard{unwound};
    switch (kind) {
    case 0: throw 42;
    case 1: throw std::runtime_error("from the library");
    case 2: throw Derived();
    case 3: throw std::string("text");
    }
}

void calls_back(void (*function)(int), int n, int *unwound)
{
    Guard guard{unwound};
    function(n);
}
