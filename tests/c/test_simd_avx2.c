/* Checks csrc/simd/avx2.h against scalar arithmetic. */
#include "base/cpu.h"
#include "check.h"

#define SIMD_NAME "avx2"
#if defined(__x86_64__)
#define SIMD_FEATURES CPU_AVX2
#include "simd/avx2.h"
#include "simd_check.h"
#include "simd/end.h"
#endif
#include "simd_main.h"
