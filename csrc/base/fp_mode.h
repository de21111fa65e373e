#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The floating-point mode of a thread: the rounding direction, whether subnormal numbers are
 * flushed to zero, and which exceptions trap. Each thread has its own mode and a caller may have
 * changed it. All calculations therefore run in one fixed mode: round to nearest, keep subnormal
 * numbers, trap nothing. The caller's mode is restored afterwards:
 *
 *     const fp_mode caller = fp_mode_enter();
 *     ... calculations ...
 *     fp_mode_leave(caller);
 *
 * On a thread that is already in the fixed mode, the two calls read a register once and write
 * nothing. Exception flags are not part of the mode. But on x86-64 they share a register with it:
 * if the caller's mode is not the fixed one, fp_mode_leave also restores the caller's flags.
 *
 * The "memory" clobbers stop the compiler from moving memory accesses and function calls out of the
 * code between the two calls. It may still move arithmetic on values in registers. So the operands
 * of the calculations must come from memory or pass through a function call.
 */
#if defined(__x86_64__)

typedef uint32_t fp_mode; /* MXCSR */

/* The bits that make up the mode: flush-to-zero, rounding, exception masks, denormals-are-zero. */
#define FP_MODE_CONTROL 0xffc0u
/* All exceptions are masked; all other bits are 0. */
#define FP_MODE_FIXED 0x1f80u

static inline void fp_mode_write(fp_mode mode)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(mode) : "memory");
}

static inline fp_mode fp_mode_read(void)
{
    fp_mode mode;
    __asm__ volatile("stmxcsr %0" : "=m"(mode) : : "memory");
    return mode;
}

#elif defined(__aarch64__)

typedef uint64_t fp_mode; /* FPCR */

#define FP_MODE_CONTROL (~(uint64_t)0) /* the exception flags are in another register, FPSR */
#define FP_MODE_FIXED ((uint64_t)0)

static inline void fp_mode_write(fp_mode mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
}

static inline fp_mode fp_mode_read(void)
{
    fp_mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode) : : "memory");
    return mode;
}

#endif

#if defined(FP_MODE_FIXED)

static inline bool fp_mode_equals_fixed(fp_mode mode)
{
    return __builtin_expect((mode & FP_MODE_CONTROL) == FP_MODE_FIXED, 1);
}

/* True if this thread is already in the fixed mode, so that nothing needs to be set or restored. */
static inline bool fp_mode_is_fixed(void)
{
    return fp_mode_equals_fixed(fp_mode_read());
}

/* Sets the fixed mode on this thread and returns the previous mode. */
static inline fp_mode fp_mode_enter(void)
{
    const fp_mode caller = fp_mode_read();
    if (!fp_mode_equals_fixed(caller)) {
        fp_mode_write((caller & ~FP_MODE_CONTROL) | FP_MODE_FIXED);
    }
    return caller;
}

static inline void fp_mode_leave(fp_mode caller)
{
    __asm__ volatile("" : : : "memory");
    if (!fp_mode_equals_fixed(caller)) {
        fp_mode_write(caller);
    }
}

#else /* The C library cannot compare two modes, so the mode is set and restored every time. */

#include <fenv.h>

typedef fenv_t fp_mode;

static inline bool fp_mode_is_fixed(void)
{
    return false;
}

static inline fp_mode fp_mode_enter(void)
{
    fp_mode caller;
    fegetenv(&caller);
    fesetenv(FE_DFL_ENV);
    return caller;
}

static inline void fp_mode_leave(fp_mode caller)
{
    fesetenv(&caller);
}

#endif
