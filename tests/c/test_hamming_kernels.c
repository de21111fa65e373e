/* Checks the Hamming kernel of every instruction set that this machine supports against a naive
 * reference. The rows end at an inaccessible page. */
#include <string.h>

#include "check.h"
#include "guarded.h"
#include "kernels/kernels.h"

enum { MAX_ROWS = 37 };

static int random_byte(void)
{
    return (int)(random_number() * 1e6) & 0xff;
}

static int32_t naive_distance(const unsigned char *a, const unsigned char *b, size_t bytes)
{
    int32_t distance = 0;
    for (size_t i = 0; i < 8 * bytes; i++) {
        distance += (a[i / 8] >> i % 8 & 1) != (b[i / 8] >> i % 8 & 1);
    }
    return distance;
}

/* Checks rows that are `step` bytes apart. A negative step means backwards, 0 the same address. Row
 * 1 equals the query; row 2 differs from it in every bit. */
static void check_hamming(const struct kernels *k, size_t rows, size_t bytes, ptrdiff_t step)
{
    const size_t apart = (size_t)(step < 0 ? -step : step),
                 size = rows == 0 ? bytes : (rows - 1) * apart + bytes;
    unsigned char *block = guarded_alloc(size), *query = guarded_alloc(bytes),
                  *x = step < 0 && rows > 0 ? block + (rows - 1) * apart : block;
    int32_t *distances = guarded_alloc(rows * sizeof *distances);
    for (size_t i = 0; i < size; i++) block[i] = (unsigned char)random_byte();
    for (size_t i = 0; i < bytes; i++) query[i] = (unsigned char)random_byte();
    for (size_t i = 0; rows > 2 && apart >= bytes && i < bytes; i++) {
        x[step + (ptrdiff_t)i] = query[i];
        x[2 * step + (ptrdiff_t)i] = (unsigned char)~query[i];
    }
    k->bits->hamming(distances, x, step, rows, query, bytes);
    for (size_t r = 0; r < rows; r++) {
        const int32_t expected = naive_distance(x + (ptrdiff_t)r * step, query, bytes);
        CHECK(distances[r] == expected, "%s %zu rows of %zu bytes, step %td: row %zu: %d, not %d",
              k->name, rows, bytes, step, r, distances[r], expected);
    }
    guarded_release("hamming");
}

int main(void)
{
    size_t tables_count;
    const struct kernels *const *tables = kernels_all(&tables_count);
    for (size_t t = 0; t < tables_count; t++) {
        const struct kernels *k = tables[t];
        if (!kernels_supported(k)) {
            printf("skip hamming_kernels %s: this processor does not have it\n", k->name);
            continue;
        }
        for (size_t bytes = 1; bytes <= 200; bytes++) {
            const size_t rows = bytes % (MAX_ROWS + 1);
            const ptrdiff_t step = (ptrdiff_t)bytes;
            check_hamming(k, rows, bytes, step);
            check_hamming(k, MAX_ROWS, bytes, step);
            check_hamming(k, rows, bytes, step + (ptrdiff_t)(bytes % 7));
            check_hamming(k, rows, bytes, -step);
            check_hamming(k, rows, bytes, 0);
            check_hamming(k, rows, bytes, 1);
        }
        /* lengths around which the kernel's counts of one byte would overflow */
        static const size_t longer[] = {495, 496, 497, 991, 992, 993, 1983, 1984, 1985, 5000};
        for (size_t i = 0; i < sizeof longer / sizeof *longer; i++) {
            check_hamming(k, 19, longer[i], (ptrdiff_t)longer[i]);
        }
    }
    return finish("hamming_kernels");
}
