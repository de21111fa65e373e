#include "kernels/kernels.h"

#include <stdatomic.h>
#include <string.h>

#include "base/cpu.h"

extern const struct kernels kernels_generic;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2, kernels_avx512, kernels_avx512_vnni;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon;
#endif

/* Best first. A new instruction set is a row here. */
static const struct kernels *const tables[] = {
#if defined(__x86_64__)
    &kernels_avx512_vnni,
    &kernels_avx512,
    &kernels_avx2,
#elif defined(__aarch64__)
    &kernels_neon,
#endif
    &kernels_generic,
};

enum { TABLES = sizeof tables / sizeof tables[0] };

static _Atomic(const struct kernels *) current;

const struct kernels *const *kernels_all(size_t *count)
{
    *count = TABLES;
    return tables;
}

bool kernels_supported(const struct kernels *table)
{
    return (table->needs & ~cpu_features()) == 0;
}

const struct kernels *kernels_current(void)
{
    const struct kernels *table = atomic_load_explicit(&current, memory_order_acquire);
    for (size_t i = 0; table == NULL && i < TABLES; i++) {
        if (kernels_supported(tables[i])) {
            table = tables[i]; /* two threads that get here at once store the same */
            atomic_store_explicit(&current, table, memory_order_release);
        }
    }
    return table;
}

bool kernels_select(const char *name)
{
    for (size_t i = 0; i < TABLES; i++) {
        if (strcmp(tables[i]->name, name) == 0 && kernels_supported(tables[i])) {
            atomic_store_explicit(&current, tables[i], memory_order_release);
            return true;
        }
    }
    return false;
}
