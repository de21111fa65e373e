#pragma once

#include <math.h>
#include <string.h>

#include "../c/check.h"
#include "pairwise/contract.h"

/* The reference of contract(): it reads elements one by one, and sums in long double over the axes
 * in the order of the request. */

static inline void naive_swap(const struct operand *operand, unsigned char *bytes)
{
    const size_t size = dtype_size(operand->dtype);
    for (size_t i = 0; operand->swapped && i < size / 2; i++) {
        const unsigned char byte = bytes[i];
        bytes[i] = bytes[size - 1 - i];
        bytes[size - 1 - i] = byte;
    }
}

static inline double naive_half(unsigned bits)
{
    const int exponent = (int)(bits >> 10 & 31);
    const double fraction = bits & 1023;
    const double value = exponent == 31  ? (fraction > 0 ? NAN : INFINITY)
                         : exponent == 0 ? ldexp(fraction, -24)
                                         : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -value : value;
}

static inline double naive_read(const struct operand *operand, const char *from)
{
    union {
        unsigned char bytes[8];
        double f64;
        float f32;
        uint16_t u16;
        int8_t i8;
        uint8_t u8;
        int16_t i16;
        int32_t i32;
        uint32_t u32;
        int64_t i64;
        uint64_t u64;
    } is;
    memcpy(is.bytes, from, dtype_size(operand->dtype));
    naive_swap(operand, is.bytes);
    switch (operand->dtype) {
    case DTYPE_F64:
        return is.f64;
    case DTYPE_F32:
        return (double)is.f32;
    case DTYPE_F16:
        return naive_half(is.u16);
    case DTYPE_BF16:
        is.u32 = (uint32_t)is.u16 << 16;
        return (double)is.f32;
    case DTYPE_I8:
        return is.i8;
    case DTYPE_U8:
        return is.u8;
    case DTYPE_I16:
        return is.i16;
    case DTYPE_U16:
        return is.u16;
    case DTYPE_I32:
        return is.i32;
    case DTYPE_U32:
        return is.u32;
    case DTYPE_I64:
        return (double)is.i64;
    default:
        return (double)is.u64;
    }
}

/* Writes a number as one element, converted to the operand's type. */
static inline void naive_write(const struct operand *operand, char *to, double value)
{
    const size_t size = dtype_size(operand->dtype);
    unsigned char bytes[8];
    const int64_t whole = (int64_t)value;
    if (dtype_is_float(operand->dtype)) {
        dtype_store(operand->dtype, (char *)bytes, 0, &value, 1);
    } else {
        memcpy(bytes, &whole, size); /* its low bytes, on a little-endian machine */
    }
    naive_swap(operand, bytes);
    memcpy(to, bytes, size);
}

/* Byte offsets of element `index` over the reduced axes, or over the others. The last axis varies
 * fastest. */
static inline struct offsets naive_offsets(const struct plan_request *r, bool reduced, size_t index)
{
    struct offsets at = {0, 0, 0};
    for (int i = r->ndim - 1; i >= 0; i--) {
        const struct axis *axis = &r->axes[i];
        if ((r->reduced >> i & 1) == reduced) {
            const ptrdiff_t step = (ptrdiff_t)(index % axis->size);
            index /= axis->size;
            at.x += step * axis->x;
            at.y += step * axis->y;
            at.out += step * axis->out;
        }
    }
    return at;
}

struct naive_sums {
    long double xy, xx, yy, magnitude; /* magnitude: the sum of |x y| */
    bool finite;
};

/* Returns the sums of one output. steps holds the byte offsets of its `depth` terms. */
static inline struct naive_sums naive_sum(const struct reduction *call, const struct offsets *steps,
                                          struct offsets at, size_t depth)
{
    struct naive_sums sums = {0, 0, 0, 0, true};
    for (size_t k = 0; k < depth; k++) {
        const long double x = naive_read(&call->x, call->x.data + at.x + steps[k].x),
                          y = naive_read(&call->y, call->y.data + at.y + steps[k].y);
        sums.xy += x * y;
        sums.xx += x * x;
        sums.yy += y * y;
        sums.magnitude += fabsl(x * y);
        sums.finite = sums.finite && isfinite(x) && isfinite(y);
    }
    return sums;
}

static inline long double naive_cosine(const struct naive_sums *sums, long double eps)
{
    const long double x = sqrtl(sums->xx), y = sqrtl(sums->yy),
                      cosine = sums->xy / ((x < eps ? eps : x) * (y < eps ? eps : y));
    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

/* Unit roundoff, smallest and largest positive number of each result type. */
static const struct naive_type {
    long double unit, least, most;
} naive_types[] = {
    [DTYPE_F64] = {0x1p-53, 0x1p-1074L, 0x1.fffffffffffffp1023L},
    [DTYPE_F32] = {0x1p-24, 0x1p-149, 0x1.fffffep127},
    [DTYPE_F16] = {0x1p-11, 0x1p-24, 65504},
    [DTYPE_BF16] = {0x1p-8, 0x1p-133, 0x1.fep127},
};

/* Tells whether `got` is the expected value, with an absolute error of at most `error` before it
 * was rounded to dtype. */
static inline bool naive_fits(enum dtype dtype, double got, long double expected, long double error)
{
    const struct naive_type *type = &naive_types[dtype];
    if (isnan(expected) || isnan(got)) {
        return isnan(expected) && isnan(got);
    }
    if (isinf(got)) {
        return (got > 0 ? expected : -expected) + error >= type->most;
    }
    return fabsl(got - expected) <= error + type->unit * (fabsl(expected) + error) + type->least;
}

/* Largest absolute error of a result before it is rounded to the output type. */
static inline long double naive_error(const struct reduction *call, const struct naive_sums *sums,
                                      bool gemm, size_t depth)
{
    const bool narrow = dtype_compute_type(call->x.dtype) == COMPUTE_F32 &&
                        dtype_compute_type(call->y.dtype) == COMPUTE_F32;
    const bool half = narrow && naive_types[call->out_dtype].unit > 0x1p-12;
    /* Sums of narrow floats are not compensated, so their error grows with depth. */
    const long double plain = 4e-15L + (narrow ? (long double)depth * 0x1p-54L : 0);
    const long double relative = narrow && gemm ? 1e-6L : half ? 0x1p-20L : plain;
    switch (call->op) {
    case OP_DOT:
        return relative * sums->magnitude +
               (long double)depth * (narrow && gemm ? 0x1p-149L : 0x1p-1074L);
    case OP_NORM:
        return relative * sqrtl(sums->xx);
    default:
        return relative;
    }
}

static inline long double naive_result(const struct reduction *call, const struct naive_sums *sums,
                                       size_t depth)
{
    switch (call->op) {
    case OP_DOT:
        return sums->xy;
    case OP_NORM:
        return sqrtl(sums->xx);
    case OP_DISTANCE:
        return depth == 0 ? 1 : 1 - naive_cosine(sums, call->eps);
    default:
        return depth == 0 ? 0 : naive_cosine(sums, call->eps);
    }
}

static inline void naive_check_one(const struct reduction *call, const char *at,
                                   long double expected, long double error, size_t i)
{
    const struct operand out = {.data = call->out, .dtype = call->out_dtype, .aligned = true};
    const double got = naive_read(&out, at);
    CHECK(naive_fits(call->out_dtype, got, expected, error),
          "op %d, dtypes %d %d to %d: result %zu is %.17g, not %.17Lg", call->op, call->x.dtype,
          call->y.dtype, call->out_dtype, i, got, expected);
}

static inline void naive_check_normalized(const struct reduction *call, const struct offsets *steps,
                                          struct offsets at, size_t depth, long double norm,
                                          char *written)
{
    const long double clamped = norm < call->eps ? call->eps : norm;
    for (size_t k = 0; k < depth; k++) {
        const long double x = naive_read(&call->x, call->x.data + at.x + steps[k].x);
        naive_check_one(call, call->out + at.out + steps[k].out, x / clamped,
                        (4e-15L + (long double)depth * 0x1p-54L) * fabsl(x / clamped), k);
        memset(written + at.out + steps[k].out, 1, dtype_size(call->out_dtype));
    }
}

/* Checks all results of a call, and that no other byte of the output was written. block is the
 * memory of the output: `bytes` bytes, filled with 0x5a before the call. */
static inline void naive_check(const struct reduction *call, const struct plan_request *r,
                               bool gemm, const char *block, size_t bytes)
{
    size_t outputs = 1, depth = 1;
    for (int i = 0; i < r->ndim; i++) {
        *(r->reduced >> i & 1 ? &depth : &outputs) *= r->axes[i].size;
    }
    struct offsets *steps = malloc((depth + 1) * sizeof *steps);
    char *marks = calloc(bytes + 1, 1), *written = marks + (call->out - block);
    for (size_t k = 0; k < depth; k++) {
        steps[k] = naive_offsets(r, true, k);
    }
    for (size_t i = 0; i < outputs; i++) {
        const struct offsets at = naive_offsets(r, false, i);
        const struct naive_sums sums = naive_sum(call, steps, at, depth);
        if (call->op == OP_NORMALIZE) {
            naive_check_normalized(call, steps, at, depth, sqrtl(sums.xx), written);
            continue;
        }
        memset(written + at.out, 1, dtype_size(call->out_dtype));
        naive_check_one(call, call->out + at.out, naive_result(call, &sums, depth),
                        naive_error(call, &sums, gemm, depth), i);
    }
    for (size_t i = 0; i < bytes; i++) {
        CHECK(marks[i] || block[i] == 0x5a, "byte %zu of %zu, between results, was written", i,
              bytes);
    }
    free(marks);
    free(steps);
}
