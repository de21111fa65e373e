/* Checks csrc/simd/neon.h against scalar arithmetic. */
#include "base/cpu.h"
#include "check.h"

#if defined(__aarch64__)
#include "simd/neon.h"
#include "simd_check.h"
#include "simd/end.h"

int main(void)
{
    if ((cpu_features() & CPU_NEON) != CPU_NEON) {
        printf("skip simd_neon: this processor does not have it\n");
        return 0;
    }
    check_vector_abstraction();
    return finish("simd_neon");
}
#else
int main(void)
{
    printf("skip simd_neon: compiled for another architecture\n");
    return 0;
}
#endif
