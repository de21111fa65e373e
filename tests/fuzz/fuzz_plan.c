/*
 * Fuzzes vectors/plan.c and the drivers that a plan chooses from. The input bytes define a call:
 * axes, strides, element types and data. The plan must visit the same elements as naive loops over
 * all axes, and each result must be that of these loops. `make fuzz` builds this file with
 * libFuzzer; linked with standalone.c, it needs only a C compiler.
 */
#include <math.h>
#include <string.h>

#include "../c/guarded.h"
#include "base/scratch.h"
#include "vectors/plan.h"
#include "pairwise/contract.h"
#include "naive_reduce.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    /* most outputs, and most terms of one output, that are compared one by one */
    MOST_ENUMERATED = 2048,
    MOST_OUTPUTS = 1 << 11,
    MOST_WORK = 1 << 13,
    MOST_BYTES = 1 << 15, /* size of an operand */
};

struct source {
    const uint8_t *data;
    size_t size, at;
};

static unsigned next(struct source *s)
{
    return s->at < s->size ? s->data[s->at++] : 0;
}

static uint64_t next_long(struct source *s)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value = value << 8 | next(s);
    }
    return value;
}

/* ---- the plan alone ---- */

/* Arbitrary sizes and strides: all that NumPy allows for empty arrays, and more. */
static uint64_t any_size(struct source *s)
{
    const unsigned byte = next(s);
    return byte < 200 ? byte % 7 : byte < 230 ? (uint64_t)1 << byte % 64 : next_long(s) >> 1;
}

static ptrdiff_t any_stride(struct source *s)
{
    const unsigned byte = next(s);
    return byte < 100   ? (ptrdiff_t)(byte % 5) * 8
           : byte < 200 ? -(ptrdiff_t)(byte % 16)
                        : (ptrdiff_t)next_long(s);
}

/* Tells whether all offsets stay far within the address space. */
static bool offsets_fit(const struct plan_request *r)
{
    for (int side = 0; side < 3; side++) {
        __int128 extent = 0;
        for (int i = 0; i < r->ndim; i++) {
            const struct axis *a = &r->axes[i];
            const __int128 stride = side == 0 ? a->x : side == 1 ? a->y : a->out, size = a->size;
            extent += size == 0 ? 0 : (stride < 0 ? -stride : stride) * (size - 1);
        }
        if (extent >> 61 != 0) {
            return false;
        }
    }
    return true;
}

static int compare_offsets(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct offsets));
}

static void check_same_offsets(struct offsets *found, struct offsets *expected, size_t n,
                               const char *what)
{
    qsort(found, n, sizeof *found, compare_offsets);
    qsort(expected, n, sizeof *expected, compare_offsets);
    for (size_t i = 0; i < n; i++) {
        CHECK(memcmp(&found[i], &expected[i], sizeof *found) == 0,
              "%s: %td %td %td, not %td %td %td", what, found[i].x, found[i].y, found[i].out,
              expected[i].x, expected[i].y, expected[i].out);
    }
}

static struct offsets expected_at(const struct plan *plan, const struct plan_request *r,
                                  bool reduced, size_t index)
{
    const struct offsets at = naive_offsets(r, reduced, index);
    return plan->swapped ? (struct offsets){at.y, at.x, at.out} : at;
}

static void check_visits(const struct plan *plan, const struct plan_request *r)
{
    static struct offsets found[MOST_ENUMERATED], expected[MOST_ENUMERATED];
    const size_t left = axes_size(&plan->left), right = axes_size(&plan->right);
    for (size_t i = 0; plan->outputs <= MOST_ENUMERATED && i < plan->outputs; i++) {
        const struct offsets o = axes_offsets(&plan->outer, i / right / left),
                             l = axes_offsets(&plan->left, i / right % left),
                             c = axes_offsets(&plan->right, i % right);
        found[i] = (struct offsets){o.x + l.x + c.x, o.y + l.y + c.y, o.out + l.out + c.out};
        expected[i] = expected_at(plan, r, false, i);
    }
    if (plan->outputs <= MOST_ENUMERATED) {
        check_same_offsets(found, expected, plan->outputs, "an output");
    }
    for (size_t k = 0; plan->depth <= MOST_ENUMERATED && k < plan->depth; k++) {
        found[k] = axes_offsets(&plan->reduced, k);
        expected[k] = expected_at(plan, r, true, k);
    }
    if (plan->depth <= MOST_ENUMERATED) {
        check_same_offsets(found, expected, plan->depth, "a term");
    }
}

static void check_axes(const struct axes *axes, const char *what)
{
    CHECK(axes->count >= 0 && axes->count <= PLAN_MAX_AXES, "%d %s axes", axes->count, what);
    for (int i = 0; i < axes->count; i++) {
        CHECK(axes->at[i].size != 1, "a %s axis of size 1", what);
    }
}

/* Makes a plan and checks it against the guarantees of plan.h. Returns whether there is a plan. */
static bool check_plan(struct plan *plan, const struct plan_request *r)
{
    size_t outputs = 1, depth = 1;
    bool fits = true;
    for (int i = 0; i < r->ndim; i++) {
        size_t *product = r->reduced >> i & 1 ? &depth : &outputs;
        fits = fits && size_mul(*product, r->axes[i].size, product);
    }
    const bool made = plan_make(plan, r);
    CHECK(made == fits, "made %d", made);
    if (!made) {
        return false;
    }
    CHECK(plan->outputs == outputs && plan->depth == depth,
          "%zu outputs of %zu terms, not %zu of %zu", plan->outputs, plan->depth, outputs, depth);
    check_axes(&plan->outer, "outer");
    check_axes(&plan->left, "left");
    check_axes(&plan->right, "right");
    check_axes(&plan->reduced, "reduced");
    CHECK(plan->driver == PLAN_GEMM ? plan->left.count > 0 && plan->right.count > 0
                                    : plan->left.count + plan->right.count == 0 && !plan->swapped,
          "driver %d with %d and %d axes", plan->driver, plan->left.count, plan->right.count);
    for (int i = 0; i < plan->left.count; i++) {
        CHECK(plan->left.at[i].x != 0 && plan->left.at[i].y == 0, "left axis %d", i);
    }
    for (int i = 0; i < plan->right.count; i++) {
        CHECK(plan->right.at[i].x == 0 && plan->right.at[i].y != 0, "right axis %d", i);
    }
    if (outputs > 0 && depth > 0 && offsets_fit(r)) {
        CHECK(axes_size(&plan->reduced) == depth &&
                  axes_size(&plan->outer) * axes_size(&plan->left) * axes_size(&plan->right) ==
                      outputs,
              "sizes");
        check_visits(plan, r);
    }
    return true;
}

static void fuzz_plan_alone(struct source *s)
{
    struct axis axes[PLAN_MAX_AXES];
    struct plan plan;
    const unsigned byte = next(s);
    struct plan_request r = {.ndim = (int)(byte < 240   ? byte % 7
                                           : byte < 250 ? byte % 33
                                                        : 64),
                             .axes = axes};
    r.reduced = next(s);
    r.reduced = r.reduced < 192 ? r.reduced : next_long(s);
    r.one_operand = next(s) & 1;
    r.x_item = 1 << next(s) % 4;
    r.y_item = r.one_operand ? r.x_item : 1 << next(s) % 4;
    for (int i = 0; i < r.ndim; i++) {
        axes[i].size = any_size(s);
        axes[i].x = any_stride(s);
        axes[i].y = r.one_operand ? axes[i].x : any_stride(s);
        axes[i].out = any_stride(s);
    }
    check_plan(&plan, &r);
}

/* ---- a call ---- */

struct scenario {
    struct plan_request request;
    struct axis axes[PLAN_MAX_AXES];
    bool pairs; /* the plan comes from plan_pairs */
    bool same;  /* both operands are the same array */
    struct reduction call;
};

static size_t some_size(struct source *s)
{
    static const uint16_t sizes[] = {16,  17,  31,   32,   33,   63,   64,  65,
                                     100, 127, 128,  129,  255,  256,  257, 511,
                                     512, 513, 1000, 1024, 4095, 4097, 0,   8200};
    const unsigned byte = next(s);
    return byte < 200 ? byte % 9 + (byte < 190 && byte % 9 == 0)
                      : sizes[byte % (sizeof sizes / sizeof *sizes)];
}

/* Sets the strides of one array. The axes in `which` are packed in C or Fortran order, some negated
 * or with gaps. Some strides of operands are 0 or arbitrary. The other axes have stride 0. */
static void draw_strides(struct source *s, struct scenario *c, int side, uint64_t which,
                         ptrdiff_t item)
{
    const bool forward = next(s) & 1, operand = side < 2;
    ptrdiff_t packed = item;
    for (int n = 0; n < c->request.ndim; n++) {
        const int i = forward ? n : c->request.ndim - 1 - n;
        struct axis *axis = &c->axes[i];
        const unsigned mode = next(s);
        ptrdiff_t stride = packed;
        if (!(which >> i & 1) || (operand && (axis->size == 1 || mode % 8 == 0))) {
            stride = 0;
        } else if (mode % 8 == 7 && operand) {
            const unsigned byte = next(s);
            stride = (ptrdiff_t)(int8_t)byte * (mode & 8 ? item : 1);
        } else {
            stride *= mode % 8 == 6 ? 2 : 1;
            packed = stride * (ptrdiff_t)(axis->size == 0 ? 1 : axis->size);
            stride = mode % 8 == 5 ? -stride : stride;
        }
        *(side == 0 ? &axis->x : side == 1 ? &axis->y : &axis->out) = stride;
        /* Operands above MOST_BYTES are not tried. The cap keeps later products from overflow. */
        if (operand && packed > MOST_BYTES) {
            packed = MOST_BYTES + item;
        }
    }
}

/* Widens [low, high), in bytes from element 0, to hold all elements of the array. */
static void extent_of(const struct scenario *c, int side, ptrdiff_t item, ptrdiff_t *low,
                      ptrdiff_t *high)
{
    ptrdiff_t first = 0, last = item;
    for (int i = 0; i < c->request.ndim; i++) {
        const struct axis *a = &c->axes[i];
        const ptrdiff_t stride = side == 0   ? a->x
                                 : side == 1 ? a->y
                                             : a->out,
                        span = stride * ((ptrdiff_t)a->size - 1);
        if (a->size == 0 &&
            (side < 2 || c->call.op == OP_NORMALIZE || !(c->request.reduced >> i & 1))) {
            return;
        }
        *(span < 0 ? &first : &last) += span;
    }
    *low = first < *low ? first : *low;
    *high = last > *high ? last : *high;
}

static bool is_aligned(const struct scenario *c, int side, const char *data, size_t item)
{
    size_t bits = (size_t)(uintptr_t)data;
    for (int i = 0; i < c->request.ndim; i++) {
        bits |= (size_t)(side == 0 ? c->axes[i].x : c->axes[i].y);
    }
    return bits % item == 0;
}

/* Fills an operand with raw bytes, or with numbers: integers in [-4, 11], or fractions in [-8, 8).
 */
static void fill(struct source *s, const struct operand *operand, char *block, size_t bytes)
{
    const unsigned how = next(s);
    uint64_t state = next(s) * 0x9e3779b97f4a7c15u + 88172645463325252u;
    const size_t item = dtype_size(operand->dtype);
    for (size_t i = 0; i < bytes; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        block[i] = (char)(how % 4 == 3 ? state >> 56 : s->at < s->size ? next(s) : state >> 56);
    }
    for (size_t i = (size_t)(uintptr_t)operand->data % item; how % 4 < 2 && i + item <= bytes;
         i += item) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        naive_write(operand, block + i,
                    how % 4 == 0 ? (double)(int)(state >> 60) - 4
                                 : (double)(int64_t)state * 0x1p-60);
    }
}

/* Allocates and fills an operand. Returns false if it would be larger than MOST_BYTES. */
static bool place(struct source *s, struct scenario *c, int side, struct operand *operand)
{
    const size_t item = dtype_size(operand->dtype);
    ptrdiff_t low = 0, high = 0;
    extent_of(c, side, (ptrdiff_t)item, &low, &high);
    if (c->same) {
        extent_of(c, 1 - side, (ptrdiff_t)item, &low, &high);
    }
    const size_t shift = next(s) < 230 ? 0 : 1; /* misaligned */
    if (high - low > MOST_BYTES) {
        return false;
    }
    /* The operand ends at the end of the block. Element 0 lies a multiple of 64 bytes (plus shift)
     * after the start of the block. */
    const size_t before = (size_t)(-low + 63) / 64 * 64 + shift, bytes = before + (size_t)high;
    char *block = guarded_alloc(bytes);
    operand->data = block + before;
    fill(s, operand, block, bytes);
    return true;
}

/* Sets the strides of all pairs of rows of one array. */
static void mirror(struct scenario *c)
{
    for (int i = 0; i < c->request.ndim; i++) {
        struct axis *axis = &c->axes[i];
        axis->y = i == 0 ? 0 : i == 1 ? c->axes[0].x : axis->x;
        axis->x = i == 1 ? 0 : axis->x;
    }
}

static bool read_scenario(struct source *s, struct scenario *c)
{
    static const double many_eps[] = {1e-8, 1e-12, 0.0, 0.5, 1e3, 5e-324, 1e-300, 1e300, INFINITY};
    struct reduction *call = &c->call;
    struct plan_request *r = &c->request;
    const unsigned flags = next(s);
    *r = (struct plan_request){.axes = c->axes};
    c->pairs = flags % 8 == 0;
    call->op = c->pairs ? OP_COSINE : (enum op)(next(s) % (OP_NORMALIZE + 1));
    r->one_operand = op_has_one_operand(call->op);
    c->same = !r->one_operand && (flags >> 3) % 4 == 0;
    call->eps = many_eps[next(s) % (sizeof many_eps / sizeof *many_eps)];
    call->x.dtype = (enum dtype)(next(s) % DTYPES);
    call->x.swapped = next(s) >= 230;
    call->y = call->x;
    if (!c->same && !r->one_operand && flags & 32) {
        call->y.dtype = (enum dtype)(next(s) % DTYPES);
        call->y.swapped = next(s) >= 230;
    }
    call->out_dtype = (enum dtype)(next(s) % (DTYPE_BF16 + 1));
    r->ndim = c->pairs ? 3 : (int)(next(s) % 7);
    r->reduced = c->pairs ? 4 : next(s) % (1u << r->ndim);
    r->x_item = (ptrdiff_t)dtype_size(call->x.dtype);
    r->y_item = (ptrdiff_t)dtype_size(call->y.dtype);
    const bool mirrored = c->same && flags & 64 && r->ndim > 1 && (r->reduced & 3) == 0;
    size_t outputs = 1, depth = 1;
    for (int i = 0; i < r->ndim; i++) {
        c->axes[i] = (struct axis){some_size(s), 0, 0, 0};
        c->axes[i].size = i == 1 && mirrored ? c->axes[0].size : c->axes[i].size;
        *(r->reduced >> i & 1 ? &depth : &outputs) *= c->axes[i].size;
    }
    if (outputs > MOST_OUTPUTS || outputs * depth > MOST_WORK || depth > MOST_WORK) {
        return false;
    }
    draw_strides(s, c, 0, c->pairs ? 5 : ~(uint64_t)0, r->x_item);
    if (r->one_operand) {
        for (int i = 0; i < r->ndim; i++) {
            c->axes[i].y = c->axes[i].x;
        }
    } else {
        draw_strides(s, c, 1, c->pairs ? 6 : ~(uint64_t)0, r->y_item);
    }
    if (mirrored) {
        mirror(c);
    }
    draw_strides(s, c, 2, call->op == OP_NORMALIZE ? ~(uint64_t)0 : ~r->reduced,
                 (ptrdiff_t)dtype_size(call->out_dtype));
    return true;
}

static void run_scenario(struct source *s, struct scenario *c)
{
    struct reduction *call = &c->call;
    struct plan plan;
    if (!place(s, c, 0, &call->x)) {
        return;
    }
    if (!op_has_one_operand(call->op) && !c->same && !place(s, c, 1, &call->y)) {
        return;
    }
    if (op_has_one_operand(call->op) || c->same) {
        call->y = call->x;
    }
    call->x.aligned = is_aligned(c, 0, call->x.data, dtype_size(call->x.dtype));
    call->y.aligned = is_aligned(c, 1, call->y.data, dtype_size(call->y.dtype));
    if (c->same) {
        call->x.aligned = call->y.aligned = call->x.aligned && call->y.aligned;
    }
    const ptrdiff_t item = (ptrdiff_t)dtype_size(call->out_dtype);
    ptrdiff_t low = 0, high = 0;
    extent_of(c, 2, item, &low, &high);
    if (high - low > 32 * MOST_BYTES) {
        return;
    }
    const size_t bytes = (size_t)(high - low);
    /* The size is rounded up, so that element 0 is aligned for every type. */
    char *out = guarded_alloc((bytes + 7) / 8 * 8);
    memset(out, 0x5a, bytes);
    call->out = out - low;
    if (c->pairs) {
        plan_pairs(&plan, &c->axes[0], &c->axes[1], &c->axes[2]);
    } else if (!check_plan(&plan, &c->request)) {
        return;
    }
    call->plan = &plan;
    CHECK(contract(call) == 0, "no memory for so little");
    naive_check(call, &c->request, plan.driver == PLAN_GEMM, out, bytes);
}

/* Selects the kernels of one instruction set, if this machine supports it. */
static void choose_kernels(unsigned byte)
{
    size_t count;
    const struct kernels *const *tables = kernels_all(&count);
    const struct kernels *table = tables[byte % count];
    if (kernels_supported(table)) {
        kernels_select(table->name);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source source = {data, size, 0};
    static struct scenario scenario;
    const unsigned kind = next(&source);
    choose_kernels(kind >> 2);
    scenario = (struct scenario){0};
    if (kind % 4 == 0) {
        fuzz_plan_alone(&source);
    } else if (read_scenario(&source, &scenario)) {
        run_scenario(&source, &scenario);
    }
    guarded_release("a call");
    return 0;
}
