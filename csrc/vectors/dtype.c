#include "vectors/dtype.h"

#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "base/scratch.h"

/* One row for each dtype: its name, the C type that holds its bits, and the conversion of these
 * bits to a number. The dtypes of FOR_EACH_NARROW can also be loaded as floats. */
#define SAME(bits) (bits)
#define FOR_EACH_NARROW(row) \
    row(F32, float, SAME) row(F16, uint16_t, f16_to_f32) row(BF16, uint16_t, bf16_to_f32) \
        row(I8, int8_t, SAME) row(U8, uint8_t, SAME)
#define FOR_EACH_DTYPE(row) \
    FOR_EACH_NARROW(row) \
    row(F64, double, SAME) row(I16, int16_t, SAME) row(U16, uint16_t, SAME) \
        row(I32, int32_t, SAME) row(U32, uint32_t, SAME) row(I64, int64_t, SAME) \
            row(U64, uint64_t, SAME)

#define INLINE static inline __attribute__((always_inline))

enum { STORE_BLOCK = 256 }; /* values rounded at a time before they are stored */

size_t dtype_size(enum dtype dtype)
{
#define SIZE(name, type, value) [DTYPE_##name] = sizeof(type),
    static const unsigned char sizes[DTYPES] = {FOR_EACH_DTYPE(SIZE)};
#undef SIZE
    return sizes[dtype];
}

INLINE void swap_bytes(unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size / 2; i++) {
        unsigned char byte = bytes[i];
        bytes[i] = bytes[size - 1 - i];
        bytes[size - 1 - i] = byte;
    }
}

/* Converts the element in `bytes` and writes it to element i of `to`. Every caller passes constants
 * for dtype and compute. */
INLINE void load_one(const enum dtype dtype, const enum compute_type compute, void *to, size_t i,
                     const void *bytes)
{
    float *floats = to;
    double *doubles = to;
#define CASE(name, type, value) \
    case DTYPE_##name: { \
        type bits; \
        memcpy(&bits, bytes, sizeof bits); \
        if (compute == COMPUTE_F32) { \
            floats[i] = (float)value(bits); \
        } else { \
            doubles[i] = (double)value(bits); \
        } \
        break; \
    }
    switch (dtype) {
        FOR_EACH_DTYPE(CASE)
    case DTYPES:
        break;
    }
#undef CASE
}

/*
 * operand_load for constants dtype and compute. Elements may lie at any address, so memcpy reads
 * them. Contiguous elements in native byte order have a separate branch, which the compiler can
 * vectorize.
 */
INLINE void load(const enum dtype dtype, const enum compute_type compute, void *to,
                 const char *from, ptrdiff_t stride, size_t n, bool swapped)
{
    const size_t size = dtype_size(dtype);
    if (stride == (ptrdiff_t)size && !swapped) {
        for (size_t i = 0; i < n; i++) {
            load_one(dtype, compute, to, i, from + i * size);
        }
        return;
    }
    for (size_t i = 0; i < n; i++, from += stride) {
        unsigned char bytes[sizeof(double)];
        memcpy(bytes, from, size);
        if (swapped) {
            swap_bytes(bytes, size);
        }
        load_one(dtype, compute, to, i, bytes);
    }
}

typedef void loader(void *to, const char *from, ptrdiff_t stride, size_t n, bool swapped);

#define LOADER(name, compute) \
    static void load_##name##_##compute(void *to, const char *from, ptrdiff_t stride, size_t n, \
                                        bool swapped) \
    { \
        load(DTYPE_##name, compute, to, from, stride, n, swapped); \
    }
#define LOADER_F32(name, type, value) LOADER(name, COMPUTE_F32)
#define LOADER_F64(name, type, value) LOADER(name, COMPUTE_F64)
FOR_EACH_NARROW(LOADER_F32)
FOR_EACH_DTYPE(LOADER_F64)

/* operand_load of 8-bit integers as 8-bit integers of the same type. */
static void load_bytes(void *to, const char *from, ptrdiff_t stride, size_t n, bool swapped)
{
    char *bytes = to;
    (void)swapped;
    for (size_t i = 0; i < n; i++, from += stride) {
        bytes[i] = *from;
    }
}

#define ROW_F32(name, type, value) [DTYPE_##name] = load_##name##_COMPUTE_F32,
#define ROW_F64(name, type, value) [DTYPE_##name] = load_##name##_COMPUTE_F64,
static loader *const loaders[PRODUCT_TYPES][DTYPES] = {
    [COMPUTE_F32] = {FOR_EACH_NARROW(ROW_F32)},
    [COMPUTE_F64] = {FOR_EACH_DTYPE(ROW_F64)},
    [COMPUTE_I8] = {[DTYPE_I8] = load_bytes},
    [COMPUTE_U8] = {[DTYPE_U8] = load_bytes},
};

void operand_load(const struct operand *operand, const char *from, ptrdiff_t stride, size_t n,
                  enum compute_type compute, void *to)
{
    const bool half = operand->dtype == DTYPE_F16 || operand->dtype == DTYPE_BF16,
               in_place =
                   stride == (ptrdiff_t)dtype_size(operand->dtype) && operand_in_place(operand);
    if (compute == COMPUTE_F32 && half && in_place) {
        kernels_current()->sums->to_floats[operand->dtype](to, from, n, 1.0);
    } else {
        loaders[compute][operand->dtype](to, from, stride, n, operand->swapped);
    }
}

/* Stores n values of `size` bytes, `stride` bytes apart. */
static inline void store(char *to, ptrdiff_t stride, const void *values, size_t size, size_t n)
{
    if (stride == (ptrdiff_t)size) {
        memcpy(to, values, n * size);
        return;
    }
    for (size_t i = 0; i < n; i++, to += stride) {
        memcpy(to, (const char *)values + i * size, size);
    }
}

/* Rounds floats to 16 bits. The kernel writes a contiguous result directly. */
static void store_half(enum dtype dtype, char *to, ptrdiff_t stride, const float *values, size_t n)
{
    narrow_kernel *narrow = kernels_current()->halves->narrow[dtype];
    if (stride == sizeof(uint16_t)) {
        narrow(to, values, n);
        return;
    }
    uint16_t block[STORE_BLOCK];
    for (size_t done = 0, count; done < n; done += count) {
        count = smaller(n - done, STORE_BLOCK);
        narrow(block, values + done, count);
        store(to + (ptrdiff_t)done * stride, stride, block, sizeof *block, count);
    }
}

/* Rounds doubles to floats that round to the same 16 bits as the doubles. */
static void round_to_odd_floats(float *to, const double *values, size_t n)
{
    if (kernels_current()->halves->round_to_odd(to, values, n)) { /* some values are subnormal */
        for (size_t i = 0; i < n; i++) {
            to[i] = f32_for_half(values[i]);
        }
    }
}

void dtype_store(enum dtype dtype, char *to, ptrdiff_t stride, const double *values, size_t n)
{
    if (dtype == DTYPE_F64) {
        store(to, stride, values, sizeof *values, n);
        return;
    }
    float block[STORE_BLOCK];
    for (size_t count; n > 0; n -= count, values += count, to += (ptrdiff_t)count * stride) {
        count = smaller(n, STORE_BLOCK);
        if (dtype == DTYPE_F32) {
            kernels_current()->sums->to_floats[DTYPE_F64](block, values, count, 1.0);
            store(to, stride, block, sizeof *block, count);
        } else {
            round_to_odd_floats(block, values, count);
            store_half(dtype, to, stride, block, count);
        }
    }
}

void dtype_store_computed(enum dtype dtype, char *to, ptrdiff_t stride, enum compute_type compute,
                          const void *values, size_t n)
{
    if (compute == COMPUTE_F64) {
        dtype_store(dtype, to, stride, values, n);
    } else if (dtype == DTYPE_F32) {
        store(to, stride, values, sizeof(float), n);
    } else if (dtype == DTYPE_F64) {
        for (size_t i = 0; i < n; i++, to += stride) {
            const double wide = ((const float *)values)[i];
            memcpy(to, &wide, sizeof wide);
        }
    } else {
        store_half(dtype, to, stride, values, n);
    }
}
