/* Checks csrc/simd/generic.h against scalar arithmetic. */
#include "base/cpu.h"
#include "check.h"

#if 1
#include "simd/generic.h"
#include "simd_check.h"
#include "simd/end.h"

int main(void)
{
    if ((cpu_features() & 0) != 0) {
        printf("skip simd_generic: this processor does not have it\n");
        return 0;
    }
    check_vector_abstraction();
    return finish("simd_generic");
}
#else
int main(void)
{
    printf("skip simd_generic: compiled for another architecture\n");
    return 0;
}
#endif
