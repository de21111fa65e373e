#ifndef COSSIM_BASE_FP_MODE_H
#define COSSIM_BASE_FP_MODE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The floating-point mode of a thread: its direction of rounding, whether subnormal numbers count
 * as zeros, which exceptions trap. A caller may have set any of them, and each thread has its own,
 * so all calculations run in one fixed mode: rounding to nearest, with subnormal numbers, without
 * traps. The caller gets its own mode back:
 *
 *     const fp_mode caller = fp_mode_enter();
 *     ... calculations ...
 *     fp_mode_leave(caller);
 *
 * A thread that is in the fixed mode already pays for one read of a register. Flags of exceptions
 * are no part of the mode; a caller with another mode gets back the flags that it had.
 *
 * The barriers keep the compiler from moving reads and writes of memory, and calls, out of the
 * pair. It may still move arithmetic on what is in registers, so the operands of the calculations
 * must come from memory or go through a call.
 */
#if defined(__x86_64__)

typedef uint32_t fp_mode; /* MXCSR */

#define FP_MODE_CONTROL \
    0xffc0u                   /* flush to zero, rounding, masks of exceptions, denormals are zero */
#define FP_MODE_FIXED 0x1f80u /* all exceptions masked, the rest 0 */

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

#define FP_MODE_CONTROL (~(uint64_t)0) /* the flags are in a register of their own */
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

/* Is this thread in the fixed mode, so that nothing has to be set or given back? */
static inline bool fp_mode_is_fixed(void)
{
    return fp_mode_equals_fixed(fp_mode_read());
}

/* Sets the fixed mode for this thread; returns the mode that it had. */
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

#else /* by the C library, whose modes cannot be compared: each call sets the mode and gives it \
         back */

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

#endif
