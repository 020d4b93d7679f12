/* AVX2 and FMA where the processor has them: kernels whose results are exact. */
#include <immintrin.h>
#include <math.h>
#include "check.h"

static unsigned mix(const unsigned *data, int count)
{
    __m256i sum = _mm256_set1_epi32(17);
    for (int i = 0; i < count; i += 8) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(data + i));
        sum = _mm256_add_epi32(_mm256_mullo_epi32(sum, _mm256_set1_epi32(31)),
                               _mm256_permutevar8x32_epi32(v, _mm256_srli_epi32(v, 29)));
        sum = _mm256_xor_si256(sum, _mm256_i32gather_epi32((const int *)data,
                               _mm256_and_si256(v, _mm256_set1_epi32(63)), 4));
    }
    unsigned lanes[8], all = 0;
    _mm256_storeu_si256((__m256i *)lanes, sum);
    for (int i = 0; i < 8; i++)
        all = all * 33 + lanes[i];
    return all;
}

static double dot(const double *a, const double *b, int count)
{
    __m256d sum = _mm256_setzero_pd();
    for (int i = 0; i < count; i += 4)
        sum = _mm256_fmadd_pd(_mm256_loadu_pd(a + i), _mm256_loadu_pd(b + i), sum);
    double lanes[4];
    _mm256_storeu_pd(lanes, sum);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

int main(void)
{
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        puts("without AVX2");
        return 0;
    }
    static unsigned data[4096];
    static double a[1024], b[1024];
    for (int i = 0; i < 4096; i++)
        data[i] = i * 2654435761u;
    for (int i = 0; i < 1024; i++)
        a[i] = i / 7.0, b[i] = sin(i);
    printf("%u %a\n", mix(data, 4096), dot(a, b, 1024));
    char text[300];
    memset(text, 'a', sizeof text);
    text[255] = 0;
    printf("%zu %p %d\n", strlen(text), memchr(text, 'b', 200), memcmp(text, text + 1, 254));
    return 0;
}
