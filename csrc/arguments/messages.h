#pragma once

/*
 * The text of every error message that only the C core raises, as formats of PyErr_Format.
 * cossim/_errors.py has those of Python, which raise_template() raises too.
 *
 * A message says what is wrong, with the names and numbers of the call. It ends with what to do
 * next. tests/helpers/messages.py has an example of every format.
 */

/* ---- arguments by position and name ---- */

#define TOO_MANY_ARGUMENTS "%s() takes at most %d positional arguments (%zd given)"
#define UNEXPECTED_ARGUMENT "%s() got an unexpected keyword argument '%U'"
#define REPEATED_ARGUMENT "%s() got multiple values for argument '%s'"
#define MISSING_ARGUMENT "%s() missing required argument '%s'"
#define ONE_OPERAND \
    "%s() missing required argument 'x2': to compare the rows of one array with each other use " \
    "cossim.pairwise(x)"

/* ---- arrays ---- */

#define NOT_AN_ARRAY "%s(): %s cannot be read as an array: %S"
#define MASKED \
    "%s(): %s is a masked array, whose mask would be ignored: pass %s.filled(...) or a plain array"
#define OUT_TYPE "%s(): out must be a numpy.ndarray, not %.100s"
#define OUT_MASKED \
    "%s(): out is a masked array, whose mask would not change: pass out.data or a plain array"

/* ---- arrays, for fail(), which adds the function before the message and the arrays after ---- */

#define FAILURE "%s(): %U (%U%s%U)"
#define ARRAY "%s: shape %R, dtype %S"
#define NOT_REAL \
    "%s must hold real numbers (float64, float32, float16, bfloat16, integers or bool): convert " \
    "it with astype"
#define COMPLEX \
    "%s must hold real numbers, not complex ones: pass %s.real, or both parts as columns"
#define TEXT \
    "%s must hold real numbers, not text: open a file with cossim.open_rows(path), convert " \
    "digits with astype(float), turn sentences into vectors with a model"
#define OBJECTS \
    "%s must hold real numbers, not Python objects: make one array of numbers first, for example " \
    "with numpy.stack"
#define NOT_ROWS \
    "%s must hold vectors as rows, shape (N, D), or be one vector, shape (D,): reshape it, such " \
    "as %s.reshape(-1, D)"
#define ROW_LENGTHS "rows of %s have %zd elements, rows of %s %zd: they must be equally long"
#define NO_BROADCAST \
    "the shapes of %s and %s do not broadcast: sizes %zd and %zd meet at dimension %d: make them " \
    "equal, or one of them 1"
#define NO_BROADCAST_OF_ROWS \
    "the rows of %s and %s do not broadcast, because there are %zd and %zd: for all pairs of " \
    "rows use cossim.pairwise"
#define VECTOR_LENGTHS \
    "%s and %s are vectors of different lengths, %zd and %zd: vectors of one model are equally long"
#define NOT_BITS \
    "with binary=True %s must hold packed bits, dtype uint8: pack the signs of numbers with " \
    "numpy.packbits(%s > 0, axis=1)"
#define NO_BITS "rows of %s have no bits: pass rows of at least one byte"
#define TOO_MANY_BITS "rows of %s have more than %d bytes: pass parts of them"
#define DIM_OUT_OF_RANGE "dim%s is out of range for %d dimensions: it must be from %d to %d"
#define DIM_OF_ONE_VECTOR "dim%s is out of range for 1 dimension: for single vectors leave dim out"
#define DIM_TWICE "dim %zd is named twice: name each dimension once"
#define TOO_MANY_ELEMENTS \
    "the broadcast shape has more elements than memory can have: pass fewer rows"
#define OUT_DTYPE "out must be of dtype float64, float32, float16 or bfloat16"
#define OUT_SHAPE "out must have shape %R, not %R"
#define OUT_READ_ONLY "out is read-only: pass a writeable array"
#define CORPUS_CHANGED "the corpus has been changed since the index was made: make the index again"
#define NO_MEMORY_FOR_CALL "not enough memory for this call: pass fewer rows or images at a time"
#define NO_MEMORY "not enough memory for this search: pass fewer rows at a time"

/* ---- sparse rows ---- */

#define CSR_ARRAYS \
    "%s(): %s is not CSR: with a shape of (%zd, %zd), its data and indices must have one " \
    "dimension and the same length, and its indptr %zd elements"
#define CSR_INTEGERS "%s must hold integers, at most 64 bits wide: convert it with astype"
#define CSR_INDPTR \
    "%s(): %s.indptr must rise from 0 to at most %zd, the number of entries, but does not at " \
    "position %zd: build the matrix again"
#define CSR_INDEX \
    "%s(): row %zd of %s has an entry outside of columns 0 to %zd: build the matrix again"

/* ---- arrays of other libraries: DLPack ---- */

#define DLPACK_CAPSULE "%s(): __dlpack__ of %s must return a new DLPack capsule, not %.100s"
#define DLPACK_TYPE \
    "%s(): %s has elements of DLPack type %d with %d bits in %d lanes, which NumPy lacks: " \
    "convert them to float32"
#define DLPACK_VERSION \
    "%s(): %s comes as DLPack %u.%u, and this cossim reads DLPack 1: convert it to a NumPy array"
#define DLPACK_MALFORMED \
    "%s(): the DLPack tensor of %s is malformed: its shape and strides fit no memory"

/* ---- arrays of other libraries: Arrow ---- */

#define ARROW_CAPSULE \
    "%s(): the Arrow export of %s must be new capsules of a schema and an array, or of a stream"
#define ARROW_STREAM "%s(): the Arrow stream of %s failed: %s"
#define ARROW_MALFORMED "%s(): the Arrow data of %s are malformed: %s"
#define ARROW_TYPE \
    "%s(): %s has Arrow elements of type %s, which are not numbers: pass numbers, or lists of " \
    "numbers"
#define ARROW_NESTED "%s(): %s has lists in lists in lists, %d deep: pass lists of numbers"
#define ARROW_TOO_LARGE "%s(): %s has more elements than memory can have: pass fewer rows"

/* ---- threads and environment ---- */

#define THREADS "%s(): n must be at least 1 and at most 2147483647%s"
#define THREADS_VARIABLE \
    "COSSIM_NUM_THREADS=%s must be a whole number from 1 to 2147483647: change or unset it"
#define VECTOR_BITS_VARIABLE "COSSIM_VECTOR_BITS=%s must be 256 or 512: change or unset it"
#define ISA_VARIABLE \
    "COSSIM_ISA=%s is unknown or not supported on this machine: unset it, or set one of %R"

/* ---- calls that only cossim's own Python code makes ---- */

#define NAMES_OF_OBJECTS "%s(): %zd names for %zd objects"
#define FP_MODE "leave_fp_mode(): mode must be what enter_fp_mode() returned"
#define MISFIT "arrays that do not fit together: call a public function, not one of cossim._core"
