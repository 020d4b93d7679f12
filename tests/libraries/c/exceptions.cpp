// Guest code for tests/libraries: exceptions across frames, through libc, and with destructors.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <vector>

namespace {

int alive = 0;

struct Guard {
    Guard() { alive++; }
    ~Guard() { alive--; }
};

struct Special : std::runtime_error {
    int code;
    Special(int code) : std::runtime_error("special"), code(code) {}
};

__attribute__((noinline)) int descend(int depth)
{
    Guard guard;
    if (depth == 0)
        throw Special(17);
    int result = descend(depth - 1);
    return result + alive;
}

int compare_and_throw(const void *a, const void *b)
{
    Guard guard;
    int x = *static_cast<const int *>(a), y = *static_cast<const int *>(b);
    if (x == 13 || y == 13)
        throw std::string("thirteen");
    return (x > y) - (x < y);
}

struct Shape {
    virtual ~Shape() = default;
    virtual double area() const = 0;
};
struct Square : Shape {
    double side;
    explicit Square(double side) : side(side) {}
    double area() const override { return side * side; }
};
struct Disc : Shape {
    double radius;
    explicit Disc(double radius) : radius(radius) {}
    double area() const override { return radius * radius * 3.14159265358979; }
};

} // namespace

extern "C" int catch_deep(int depth)
{
    Guard guard;
    try {
        return descend(depth);
    } catch (const Special &error) {
        return error.code * 100 + alive;
    }
}

extern "C" int throw_through_qsort(int *values, size_t count)
{
    try {
        qsort(values, count, sizeof *values, compare_and_throw);
        return -1;
    } catch (const std::string &text) {
        return static_cast<int>(text.size()) * 100 + alive;
    }
}

extern "C" int rethrow(int rounds)
{
    int caught = 0;
    for (int i = 0; i < rounds; i++) {
        try {
            try {
                if (i % 3 == 0)
                    throw i;
                if (i % 3 == 1)
                    std::vector<int>().at(5);
                std::string("abc").substr(10);
            } catch (const std::exception &error) {
                caught += typeid(error) == typeid(std::out_of_range);
                throw;
            }
        } catch (int number) {
            caught += number;
        } catch (...) {
            caught += 1000;
        }
    }
    return caught;
}

extern "C" int from_libstdcxx(const char *text)
{
    try {
        return std::stoi(text);
    } catch (const std::invalid_argument &) {
        return -1;
    } catch (const std::out_of_range &) {
        return -2;
    }
}

extern "C" double virtual_calls(int count)
{
    std::vector<std::unique_ptr<Shape>> shapes;
    for (int i = 0; i < count; i++) {
        if (i % 2)
            shapes.push_back(std::make_unique<Square>(i));
        else
            shapes.push_back(std::make_unique<Disc>(i));
    }
    std::sort(shapes.begin(), shapes.end(),
              [](const auto &a, const auto &b) { return a->area() > b->area(); });
    double sum = 0;
    int sign = 1;
    for (const auto &shape : shapes)
        sum += (sign = -sign) * shape->area();
    return sum;
}

extern "C" size_t containers(int count, char *to, size_t size)
{
    std::map<std::string, std::function<int(int)>> table;
    for (int i = 0; i < count; i++)
        table[std::to_string(i * 7919 % 1000)] = [i](int x) { return x * i; };
    std::ostringstream out;
    for (const auto &[name, function] : table)
        out << name << '=' << function(3) << ' ' << 0.1 * function(1) << ';';
    std::string text = out.str();
    size_t length = text.copy(to, size - 1);
    to[length] = 0;
    return text.size();
}
