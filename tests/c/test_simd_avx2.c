/* Checks csrc/simd/avx2.h against scalar arithmetic. */
#include "base/cpu.h"
#include "check.h"

#if defined(__x86_64__)
#include "simd/avx2.h"
#include "simd_check.h"
#include "simd/end.h"

int main(void)
{
    if ((cpu_features() & CPU_AVX2) != CPU_AVX2) {
        printf("skip simd_avx2: this processor does not have it\n");
        return 0;
    }
    check_vector_abstraction();
    return finish("simd_avx2");
}
#else
int main(void)
{
    printf("skip simd_avx2: compiled for another architecture\n");
    return 0;
}
#endif
