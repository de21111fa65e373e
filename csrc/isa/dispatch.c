#include "kernels/kernels.h"

#include <stdatomic.h>
#include <string.h>

#include "base/cpu.h"

/* All instruction sets, best first. A new one adds its name here. */
#if defined(__x86_64__)
#define EACH_SET(set) set(avx512_vpopcntdq) set(avx512_vnni) set(avx512) set(avx2) set(generic)
#elif defined(__aarch64__)
#define EACH_SET(set) set(neon) set(generic)
#else
#define EACH_SET(set) set(generic)
#endif

#define DECLARE(name) extern const struct kernels kernels_##name;
EACH_SET(DECLARE)

#define ROW(name) &kernels_##name,
static const struct kernels *const tables[] = {EACH_SET(ROW)};

enum { TABLES = sizeof tables / sizeof tables[0] };

static _Atomic(const struct kernels *) current;
/* 1: layers use the full vector width. -1: half of it. 0: cpu_has_full_width_avx512 says how they
 * use the full width. */
static _Atomic(int) wide_layers;

void kernels_use_wide_layers(bool wide)
{
    atomic_store_explicit(&wide_layers, wide ? 1 : -1, memory_order_relaxed);
}

static const struct kernels *with_layers(const struct kernels *table)
{
    const int choice = atomic_load_explicit(&wide_layers, memory_order_relaxed);
    if (table->narrow == NULL || choice > 0) {
        return table;
    }
    return choice < 0 ? table->narrow : cpu_has_full_width_avx512() ? table : table->split;
}

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
            table = with_layers(tables[i]); /* concurrent callers store the same table */
            atomic_store_explicit(&current, table, memory_order_release);
        }
    }
    return table;
}

bool kernels_select(const char *name)
{
    for (size_t i = 0; i < TABLES; i++) {
        if (strcmp(tables[i]->name, name) == 0 && kernels_supported(tables[i])) {
            atomic_store_explicit(&current, with_layers(tables[i]), memory_order_release);
            return true;
        }
    }
    return false;
}
