/* Closes the target region that the header of an instruction set opened. This file has no include
 * guard, because each inclusion closes a region. */
#ifdef SIMD_REGION
#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif
