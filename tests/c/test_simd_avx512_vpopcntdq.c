/* Checks csrc/simd/avx512.h with VPOPCNTDQ against scalar arithmetic. */
#include "base/cpu.h"
#include "check.h"

#if defined(__x86_64__)
#define SIMD_VPOPCNTDQ
#include "simd/avx512.h"
#include "simd_check.h"
#include "simd/end.h"

int main(void)
{
    if ((cpu_features() & (CPU_AVX512 | CPU_VPOPCNTDQ)) != (CPU_AVX512 | CPU_VPOPCNTDQ)) {
        printf("skip simd_avx512_vpopcntdq: this processor does not have it\n");
        return 0;
    }
    check_vector_abstraction();
    return finish("simd_avx512_vpopcntdq");
}
#else
int main(void)
{
    printf("skip simd_avx512_vpopcntdq: compiled for another architecture\n");
    return 0;
}
#endif
