/*
 * Checks the matrix products of 8-bit integers of every instruction set that this machine supports
 * against naive sums. Groups of four bytes exist only on some processors. So their kernels are also
 * compiled from plain C, to check that the template handles the bias.
 */
#include <string.h>

#include "check.h"
#include "guarded.h"
#include "kernels/kernels.h"
#include "simd/generic.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define INLINE static inline

#define TILE i8
#define TILE_TYPE int8_t
#define TILE_DOT vi_dot_groups_i8
#define TILE_BIAS RIGHT_BIAS_I8
#include "kernels/gemm_i8_template.h"

#define TILE u8
#define TILE_TYPE uint8_t
#define TILE_DOT vi_dot_groups_u8
#define TILE_BIAS RIGHT_BIAS_U8
#include "kernels/gemm_i8_template.h"

static const struct byte_kernels four_byte_kernels[] = {
    {TILE_ROWS, TILE_VECTORS *VF_LANES, 1, tile_i8, widen_i8, pack_i8},
    {TILE_ROWS, TILE_VECTORS *VF_LANES, 1, tile_u8, widen_u8, pack_u8},
};

enum { MAX_ROWS = 16, MAX_COLUMNS = 64, MAX_DEPTH = 3 * BYTE_DEPTH };

static uint8_t left[MAX_ROWS][MAX_DEPTH], right[MAX_COLUMNS][MAX_DEPTH];

static int value(bool is_signed, uint8_t bits)
{
    return is_signed ? (int8_t)bits : bits;
}

/* Packs `count` right rows and multiplies them with a tile of left rows, block by block. The packed
 * rows lie in guarded memory of the size that kernels.h requires. */
static void check_product(const struct byte_kernels *k, const char *name, bool is_signed,
                          size_t depth, size_t count)
{
    static double sums[MAX_ROWS * MAX_COLUMNS];
    const size_t padding = BYTE_PADDING / k->element_size,
                 padded = (depth + padding - 1) / padding * padding * k->element_size;
    const void *rows[MAX_ROWS], *columns[MAX_COLUMNS];
    CHECK(k->rows <= MAX_ROWS && k->columns <= MAX_COLUMNS, "%s tile", name);
    for (size_t r = 0; r < k->rows; r++) {
        void *row = guarded_alloc(padded);
        k->widen(row, left[r], depth);
        rows[r] = row;
    }
    for (size_t at = 0, n; at < depth; at += n) {
        n = depth - at < BYTE_DEPTH ? depth - at : BYTE_DEPTH;
        const size_t groups = (n + BYTE_GROUP - 1) / BYTE_GROUP;
        void *panel = guarded_alloc(groups * BYTE_GROUP * k->columns * k->element_size);
        for (size_t c = 0; c < count; c++) columns[c] = right[c] + at;
        k->pack(panel, columns, count, n);
        k->tile(sums, NULL, rows, panel, at, n,
                (at == 0 ? TILE_FIRST : 0) | (at + n == depth ? TILE_LAST : 0), 0);
    }
    for (size_t r = 0; r < k->rows; r++) {
        for (size_t c = 0; c < count; c++) {
            double expected = 0;
            for (size_t i = 0; i < depth; i++)
                expected += value(is_signed, left[r][i]) * value(is_signed, right[c][i]);
            CHECK(sums[r * k->columns + c] == expected,
                  "%s signed=%d depth %zu at %zu, %zu: %g, %g", name, is_signed, depth, r, c,
                  sums[r * k->columns + c], expected);
        }
    }
    guarded_release("gemm_i8");
}

/* Fills all rows with random bytes, or with one extreme value. */
static void fill(uint8_t *rows, size_t count, int kind)
{
    static const uint8_t extremes[] = {0x80, 0xff, 0x7f};
    for (size_t i = 0; i < count * MAX_DEPTH; i++)
        rows[i] = kind < 3 ? extremes[kind] : (uint8_t)(int)(random_number() * 129);
}

static void check_kernels(const struct byte_kernels *k, const char *name)
{
    static const size_t depths[] = {63,
                                    64,
                                    65,
                                    127,
                                    128,
                                    255,
                                    256,
                                    511,
                                    513,
                                    1000,
                                    BYTE_DEPTH - 1,
                                    BYTE_DEPTH,
                                    BYTE_DEPTH + 1,
                                    BYTE_DEPTH + 70,
                                    2 * BYTE_DEPTH + 3,
                                    MAX_DEPTH};
    for (int kind = 0; kind < 4; kind++) {
        fill(&left[0][0], MAX_ROWS, kind);
        fill(&right[0][0], MAX_COLUMNS, kind);
        for (int is_signed = 0; is_signed < 2; is_signed++) {
            const struct byte_kernels *kernels = &k[is_signed ? 0 : 1];
            for (size_t depth = 1; depth <= 40; depth++)
                check_product(kernels, name, is_signed, depth, 1 + depth % kernels->columns);
            for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
                check_product(kernels, name, is_signed, depths[i],
                              i % 2 == 0 ? kernels->columns : kernels->columns - 1);
        }
    }
}

int main(void)
{
    size_t count;
    const struct kernels *const *tables = kernels_all(&count);
    check_kernels(four_byte_kernels, "four bytes");
    for (size_t t = 0; t < count; t++) {
        if (!kernels_supported(tables[t])) {
            printf("skip gemm_i8 %s: this processor does not have it\n", tables[t]->name);
        } else if (tables[t]->bytes != NULL) {
            check_kernels(tables[t]->bytes, tables[t]->name);
        }
    }
    return finish("gemm_i8");
}
