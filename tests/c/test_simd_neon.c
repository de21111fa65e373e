/* Checks csrc/simd/neon.h against scalar arithmetic. */
#include "base/cpu.h"
#include "check.h"

#define SIMD_NAME "neon"
#if defined(__aarch64__)
#define SIMD_FEATURES CPU_NEON
#include "simd/neon.h"
#include "simd_check.h"
#include "simd/end.h"
#endif
#include "simd_main.h"
