/* Checks csrc/simd/avx512.h against scalar arithmetic. */
#include "base/cpu.h"
#include "check.h"

#define SIMD_NAME "avx512"
#if defined(__x86_64__)
#define SIMD_FEATURES CPU_AVX512
#include "simd/avx512.h"
#include "simd_check.h"
#include "simd/end.h"
#endif
#include "simd_main.h"
