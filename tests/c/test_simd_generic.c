/* Checks csrc/simd/generic.h against scalar arithmetic. */
#include "check.h"

#include "simd/generic.h"
#include "simd_check.h"
#include "simd/end.h"

int main(void)
{
    check_vector_abstraction();
    return finish("simd_generic");
}
