/* Closes the target region that an instruction set's header opened. No include guard: it is code,
 * not declarations. */
#ifdef SIMD_REGION
#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif
