/* Finds which Arrow types hold rows of numbers. */
#include "arguments/arrow_schema.h"

#include "arguments/messages.h"
#include "arguments/protocols.h"

enum status { HOLDS_NUMBERS, HOLDS_OTHERS, TOO_DEEP, MALFORMED };

/* Number types: Arrow's format letter, NumPy's type, bytes of a number (0 for bits). */
static const struct {
    char format;
    int type;
    npy_intp bytes;
} numbers[] = {
    {'b', NPY_BOOL, 0},   {'c', NPY_INT8, 1},  {'C', NPY_UINT8, 1},  {'s', NPY_INT16, 2},
    {'S', NPY_UINT16, 2}, {'i', NPY_INT32, 4}, {'I', NPY_UINT32, 4}, {'l', NPY_INT64, 8},
    {'L', NPY_UINT64, 8}, {'e', NPY_HALF, 2},  {'f', NPY_FLOAT, 4},  {'g', NPY_DOUBLE, 8},
};

/* Names of other types, by the first letters of their format. */
static const struct {
    const char *start, *name;
} others[] = {
    {"n", "null"},         {"u", "string"},
    {"U", "large_string"}, {"vu", "string_view"},
    {"z", "binary"},       {"Z", "binary"},
    {"vz", "binary"},      {"w:", "fixed_size_binary"},
    {"d:", "decimal"},     {"td", "date"},
    {"tt", "time"},        {"ts", "timestamp"},
    {"tD", "duration"},    {"ti", "interval"},
    {"+s", "struct"},      {"+m", "map"},
    {"+u", "union"},       {"+r", "run-end encoded"},
};

/* Returns a name of a type for messages. */
static const char *type_name(const struct arrow_schema *schema)
{
    if (schema->dictionary != NULL) {
        return "dictionary";
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strncmp(schema->format, others[i].start, strlen(others[i].start)) == 0) {
            return others[i].name;
        }
    }
    return schema->format;
}

/* Reads the format of a list type. Returns false for other types. */
static bool list_format(const char *format, enum arrow_list *list, int64_t *width)
{
    static const char *const lists[] = {
        [ARROW_LIST] = "+l",
        [ARROW_LARGE_LIST] = "+L",
        [ARROW_LIST_VIEW] = "+vl",
        [ARROW_LARGE_LIST_VIEW] = "+vL",
    };
    for (int i = ARROW_LIST; i <= ARROW_LARGE_LIST_VIEW; i++) {
        if (strcmp(format, lists[i]) == 0) {
            *list = (enum arrow_list)i;
            *width = 0;
            return true;
        }
    }
    char *end;
    if (strncmp(format, "+w:", 3) != 0) {
        return false;
    }
    *list = ARROW_FIXED;
    *width = strtoll(format + 3, &end, 10); /* out of range: LLONG_MAX, more than any array holds */
    return end > format + 3 && *end == '\0' && *width >= 0;
}

static bool number_format(const char *format, struct arrow_layout *layout)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (format[0] == numbers[i].format && format[1] == '\0') {
            layout->type = numbers[i].type;
            layout->bytes = numbers[i].bytes;
            return true;
        }
    }
    return false;
}

static bool has_children(const struct arrow_schema *schema)
{
    if (schema->n_children < 0 || (schema->n_children > 0 && schema->children == NULL)) {
        return false;
    }
    for (int64_t i = 0; i < schema->n_children; i++) {
        if (schema->children[i] == NULL || schema->children[i]->format == NULL) {
            return false;
        }
    }
    return true;
}

/* Reads a type: nested lists with numbers inside. Sets *inner to the innermost type that it read.
 */
static enum status layout_of(const struct arrow_schema *schema, struct arrow_layout *layout,
                             const struct arrow_schema **inner)
{
    enum arrow_list list;
    int64_t width;
    for (int level = 0; level <= ARROW_MAX_LEVELS; level++) {
        *inner = schema;
        layout->levels = level;
        if (schema->format == NULL || !has_children(schema)) {
            return MALFORMED;
        }
        if (schema->dictionary != NULL) {
            return HOLDS_OTHERS;
        }
        if (!list_format(schema->format, &list, &width)) {
            return number_format(schema->format, layout) ? HOLDS_NUMBERS : HOLDS_OTHERS;
        }
        if (schema->n_children != 1) {
            return MALFORMED;
        }
        if (level < ARROW_MAX_LEVELS) {
            layout->level[level].list = list;
            layout->level[level].width = width;
        }
        schema = schema->children[0];
    }
    return TOO_DEEP;
}

/* ---- the extension type FixedShapeTensor ---- */

/* Finds a key in the metadata of a type. Returns the key's value, which has *length bytes, or NULL.
 */
static const char *metadata_value(const char *metadata, const char *key, int32_t *length)
{
    int32_t pairs, key_length;
    if (metadata == NULL) {
        return NULL;
    }
    memcpy(&pairs, metadata, sizeof pairs);
    metadata += sizeof pairs;
    for (int32_t i = 0; i < pairs; i++) {
        memcpy(&key_length, metadata, sizeof key_length);
        if (key_length < 0) {
            return NULL;
        }
        const char *const this_key = metadata + sizeof key_length, *end = this_key + key_length;
        memcpy(length, end, sizeof *length);
        if (*length < 0) {
            return NULL;
        }
        if ((size_t)key_length == strlen(key) && memcmp(this_key, key, strlen(key)) == 0) {
            return end + sizeof *length;
        }
        metadata = end + sizeof *length + *length;
    }
    return NULL;
}

/* Reads the list of integers under a key of a dict into values. Returns its length, which is 0 if
 * the key is missing. Returns -1 if the value is not a list of integers or is too long. */
static int integers_of(PyObject *dict, const char *key, npy_intp *values)
{
    PyObject *list = PyDict_GetItemString(dict, key);
    const Py_ssize_t n = list == NULL || list == Py_None ? 0
                         : PyList_Check(list)            ? PyList_GET_SIZE(list)
                                                         : -1;
    if (n < 0 || n > ARROW_MAX_TENSOR) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        values[i] = PyLong_Check(PyList_GET_ITEM(list, i))
                        ? PyLong_AsSsize_t(PyList_GET_ITEM(list, i))
                        : -1;
        if (values[i] < 0) {
            PyErr_Clear();
            return -1;
        }
    }
    return (int)n;
}

/* Reads shape and permutation of a tensor. Returns false unless they fit each other and lists of
 * this width. */
static bool read_tensor(PyObject *dict, int64_t width, struct arrow_layout *layout)
{
    npy_intp axes[ARROW_MAX_TENSOR];
    int64_t product = 1;
    unsigned used = 0;
    const int ndim = integers_of(dict, "shape", layout->tensor_shape),
              axis_count = integers_of(dict, "permutation", axes);
    if (ndim < 1 || (axis_count != 0 && axis_count != ndim)) {
        return false;
    }
    for (int i = 0; i < ndim; i++) {
        layout->tensor_axis[i] = axis_count == 0 ? i : (int)axes[i];
        if ((axis_count != 0 && axes[i] >= ndim) || used >> layout->tensor_axis[i] & 1 ||
            __builtin_mul_overflow(product, layout->tensor_shape[i], &product)) {
            return false;
        }
        used |= 1u << layout->tensor_axis[i];
    }
    layout->tensor_ndim = ndim;
    return product == width;
}

/* Reads the shape of a column of the extension type FixedShapeTensor. Columns of other extension
 * types are read as their storage type. Returns 0, or -1 with an error set. */
static int extension_of(const char *function, const char *name, const struct arrow_schema *schema,
                        struct arrow_layout *layout)
{
    static const char tensor[] = "arrow.fixed_shape_tensor";
    int32_t length;
    layout->tensor_ndim = 0;
    const char *extension = metadata_value(schema->metadata, "ARROW:extension:name", &length);
    if (layout->levels == 0 || layout->level[0].list != ARROW_FIXED || extension == NULL ||
        (size_t)length != sizeof tensor - 1 || memcmp(extension, tensor, sizeof tensor - 1) != 0) {
        return 0;
    }
    const char *text = metadata_value(schema->metadata, "ARROW:extension:metadata", &length);
    OWNED PyObject *module = text == NULL ? NULL : PyImport_ImportModule("json"),
                   *dict = module == NULL ? NULL
                                          : PyObject_CallMethod(module, "loads", "s#", text,
                                                                (Py_ssize_t)length);
    if (dict == NULL && PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_ValueError)) {
        return -1;
    }
    PyErr_Clear();
    if (dict == NULL || !PyDict_Check(dict) || !read_tensor(dict, layout->level[0].width, layout)) {
        return raise_format(PyExc_ValueError, ARROW_MALFORMED, function, name,
                            "the shape of its tensors does not fit its lists");
    }
    return 0;
}

/* ---- columns ---- */

/* Sets the error for a type that cannot be read. Returns -1. */
static int refuse(const char *function, const char *name, enum status status,
                  const struct arrow_schema *inner)
{
    switch (status) {
    case MALFORMED:
        return raise_format(PyExc_ValueError, ARROW_MALFORMED, function, name,
                            "its type has no format, or other children than its format says");
    case TOO_DEEP:
        return raise_format(PyExc_TypeError, ARROW_NESTED, function, name, ARROW_MAX_LEVELS);
    default:
        return raise_format(PyExc_TypeError, ARROW_TYPE, function, name, type_name(inner));
    }
}

/* Returns the names of the columns of vectors, or of those of numbers, separated by commas. New
 * reference, or NULL with an error set. */
static PyObject *column_names(const struct arrow_schema *schema, bool of_vectors)
{
    OWNED PyObject *names = PyList_New(0), *comma = PyUnicode_FromString(", ");
    for (int64_t i = 0; i < schema->n_children && names != NULL && comma != NULL; i++) {
        const struct arrow_schema *inner;
        struct arrow_layout layout = {0};
        if (layout_of(schema->children[i], &layout, &inner) != HOLDS_NUMBERS ||
            (layout.levels > 0) != of_vectors) {
            continue;
        }
        const char *given = schema->children[i]->name, *name = given == NULL ? "" : given;
        OWNED PyObject *one = PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
        if (one == NULL || PyList_Append(names, one) < 0) {
            return NULL;
        }
    }
    if (names == NULL || comma == NULL) {
        return NULL;
    }
    return PyList_GET_SIZE(names) > 0 ? PyUnicode_Join(comma, names)
                                      : PyUnicode_FromString("it has none");
}

/* Finds the columns of a table that hold its rows. Returns 0, or -1 with an error set. */
static int columns_of(const char *function, const char *name, const struct arrow_schema *schema,
                      struct arrow_rows *rows)
{
    const struct arrow_schema *inner;
    int64_t vectors = 0, plain = 0;
    rows->of_column = PyMem_Calloc((size_t)schema->n_children, sizeof *rows->of_column);
    if (rows->of_column == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int64_t i = 0; i < schema->n_children; i++) {
        struct arrow_layout *layout = &rows->of_column[i];
        const enum status status = layout_of(schema->children[i], layout, &inner);
        if (status == MALFORMED) {
            return refuse(function, name, status, inner);
        }
        if (status == HOLDS_NUMBERS && layout->levels > 0) {
            vectors++;
            rows->column = i;
            rows->layout = *layout;
        }
        plain += status == HOLDS_NUMBERS && layout->levels == 0;
    }
    if (vectors == 1) {
        return extension_of(function, name, schema->children[rows->column], &rows->layout);
    }
    rows->column = -1;
    if (vectors == 0 && plain == schema->n_children && plain > 0) {
        return 0;
    }
    PyObject *names = column_names(schema, vectors > 0);
    if (names != NULL) {
        raise_template(PyExc_ValueError, vectors > 0 ? "COLUMNS" : "NO_VECTORS", "{ss ss sL sN}",
                       "function", function, "name", name, "count", (long long)vectors, "names",
                       names);
    }
    return -1;
}

int arrow_rows_of(const char *function, const char *name, const struct arrow_schema *schema,
                  struct arrow_rows *rows)
{
    const struct arrow_schema *inner;
    const enum status status = layout_of(schema, &rows->layout, &inner);
    rows->table = status == HOLDS_OTHERS && inner == schema && strcmp(schema->format, "+s") == 0;
    rows->column = 0;
    rows->columns = rows->table ? schema->n_children : 1;
    rows->of_column = NULL;
    if (rows->table) {
        return columns_of(function, name, schema, rows);
    }
    if (status != HOLDS_NUMBERS) {
        return refuse(function, name, status, inner);
    }
    return extension_of(function, name, schema, &rows->layout);
}
