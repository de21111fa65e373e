"""The text of every error message that Python code raises, by subject. csrc/arguments/messages.h has the others.

A message is a template. The place that finds a mistake fills it in and names the type of the error:

    raise ValueError(_errors.K_TOO_LARGE.format(function=function, name=name, k=k, candidates=5))

A message says what is wrong, with the names and numbers of the call, and then what to do next. In a template

    {function}  is the public function that was called, without brackets
    {name}      is an argument of that function
    {kind}      is the type of a wrong argument
    {path}      is a file, and {error} the text of an exception that was caught
    {arrays}    is described(...) of the arrays that do not fit; it ends the message

tests/helpers/messages.py has an example of every template.
"""


def described(**arrays):
    """The arrays of a message: "(x: shape (2, 3), dtype float32; y: shape (3,), dtype int64)". Leaves out None."""
    parts = (f"{name}: shape {a.shape}, dtype {a.dtype}" for name, a in arrays.items() if a is not None)
    return f"({'; '.join(parts)})"


# ---- arguments of any subject ----

AN_INTEGER, INTEGER_OR_PAIR, INTEGER_OR_NONE = "an integer", "an integer or a pair of them", "an integer or None"
BYTES = "a number of bytes, such as 2**30"
NOT_AN_INTEGER = "{function}(): {name} must be {wanted}, not {kind}"  # wanted: one of the four above
TOO_SMALL = "{function}(): {name} must be at least {least}, not {value}"
TOO_LARGE = "{function}(): {name} must be below {limit}, not {value}"
NOT_A_NUMBER = "{function}(): {name} must be a number, not {kind}"
BEYOND_FLOAT64 = "{function}(): {name} must be a number that fits a float64"
NEGATIVE_EPS = "{function}(): eps must be at least 0, not {eps}: it is the smallest norm to divide by, such as 1e-8"
NOT_FLOAT32_OR_64 = "{function}(): {name} must be float32 or float64, not {dtype}: convert it with astype"
WRONG_GRADIENT = "{function}(): {name} must have the shape and dtype of {result} {arrays}"
TWO_NAMES = "{function}() got both {name} and {other}, which are two names of one argument: pass one of them"
NOT_A_PROGRESS = "{function}(): progress must be None, a bool or a callable of (done, total), not {kind}"
NEEDS_TQDM = "{function}(): progress=True draws a bar with tqdm: pip install 'cossim-c[progress]'"

NOT_A_PATH = "{function}(): path must be a str or os.PathLike, not {kind}: pass the name of a file"
NEEDS_PACKAGE = "{function} needs {package}: pip install {package}"

# ---- rows that are Python objects, columns of pandas or of Arrow ----

NULL_ROW = "{function}(): row {row} of {name} is null: drop or fill nulls first"
NULL_IN_ROW = "{function}(): row {row} of {name} has a null in it: drop or fill nulls first"
RAGGED = "{function}(): rows of {name} must be equally long: row {row} has {size}, and row {first} has {first_size}"
COLUMNS = (
    "{function}(): {name} is a table with {count} columns of vectors, where one is needed: pass one of its columns "
    "({names}), or its columns of numbers alone"
)
NO_VECTORS = (
    "{function}(): {name} is a table without a column of vectors: pass its columns of numbers alone ({names}), or turn "
    "text into vectors with a model"
)
# ---- arguments that are not arrays of real numbers. {name} may be an element, such as x[2]. ----

TEXT_ELEMENT = "{function}(): {name} is text, {value!r:.40}: pass numbers, such as the vector of a model"
NEEDS_CPU = "{function}(): {name} is on the device {device}: copy it to the CPU first, such as {name}.cpu()"
REQUIRES_GRAD = "{function}(): {name} requires grad, and no gradient goes through this call: pass {name}.detach()"
REQUIRES_GRAD_OF = REQUIRES_GRAD + ", and take gradients from {gradients}"
NOT_NUMBERS = "{function}(): {name} must be an array of real numbers, not {kind}: pass an array or nested lists"
AN_INDEX = "{function}(): {name} is an Index: call its topk or pairs_above, or pass its corpus"
A_GROUP = "{function}(): {name} holds arrays by name, as {kind}: pass one of them, such as {name}[{key!r}]"
NOT_COLLECTED = "{function}(): {name} is lazy, a {kind}: pass {name}.collect()"
SPARSE_REFUSED = (
    "{function}(): {name} is sparse, and dense rows are needed: pass {name}.toarray() if it fits into memory"
)
SPARSE_SEARCHES = SPARSE_REFUSED + ", or use topk, pairs_above or duplicate_groups, which take sparse rows"
NUMBERS_AS_OBJECTS = "{function}(): {name} holds its numbers as Python objects: convert it with astype(float) {arrays}"

# ---- the package ----

NO_EXTENSION = (
    "{folder} has no C extension for Python {version}. If this is cossim's source directory, start Python in another "
    "one to import the cossim that is installed, or build the extension here: pip install --editable ."
)
NO_ATTRIBUTE = "module 'cossim' has no attribute {name!r}"
CONFIG_MODE = "show_config(): mode must be 'stdout' or 'dicts', not {mode!r}"

# ---- pictures ----

PLOT_NEEDS_MATPLOTLIB = "cossim.plot draws with matplotlib: pip install 'cossim-c[plot]'"
PLOT_MATRIX = "{function}(): matrix must have two dimensions, not shape {shape}: pass the scores of pairwise(x)"
PLOT_NOT_SQUARE = "{function}(): an order needs a square matrix, not shape {shape}: pass the scores of pairwise(x)"
PLOT_ORDER = "heatmap(): order must be 'clusters' or an order of the rows: pass the row numbers 0 to {last}, each once"
PLOT_LABELS = "heatmap(): {name} has {count} names for {size} {what}: pass a name for each"
PLOT_PIXELS = (
    "neighbours(): {name} must have shape (N, H, W), (N, 1, H, W), (N, 3, H, W) or (N, H, W, 3), not {shape}: reshape "
    "them"
)
PLOT_QUERIES = (
    "neighbours(): the queries are {count} images, but found has results for {queries}: pass queries=, the images that "
    "were searched for"
)
PLOT_IMAGES = "neighbours(): found has row number {index}, but there are {count} images: pass all images of the corpus"
PLOT_SIZES = "neighbours(): queries are images of {queries} pixels, and the corpus has {images}: resize one of them"

# ---- search ----

K_TOO_LARGE = "{function}(): {name} must be at most {candidates}, the number of rows to choose from, not {k}"
RESULT_SIZE = "{function}(): there is no memory for a result of shape {shape}: request less, or search in parts"
MASK_SHAPE = (
    "{function}(): a mask in where must have shape {shapes}, an element for each row to choose from: make it from "
    "their ids, such as np.isin(ids, wanted) {arrays}"
)
MASK_OF_LIVE_ROWS = (
    "{function}(): the mask in where has {size} elements, one for each row that is left, but it must count removed "
    "rows too, {given} in all: pass where=index.numbers[mask]"
)
WHERE_NUMBERS = (
    "{function}(): row numbers in where must have shape (n,), and apply to all queries: if each query has its own "
    "rows, pass a bool mask (Q, N) {arrays}"
)
EXCLUDE_SHAPE = (
    "{function}(): exclude must have shape {shapes}: pass a list of row numbers, or one list for each query, the "
    "shorter ones padded with -1 {arrays}"
)
FILTER_TEXT = (
    "{function}(): {name} holds text, but rows are selected by their numbers or by a mask: pass "
    "where=np.isin(ids, wanted), or where=~np.isin(ids, unwanted) {arrays}"
)
WHERE_DTYPE = (
    "{function}(): where must be a bool mask or row numbers: convert it with astype(bool) or astype(int) {arrays}"
)
EXCLUDE_DTYPE = (
    "{function}(): exclude must hold row numbers: convert them with astype(int), and pass where=~mask in place of a "
    "mask {arrays}"
)
NEGATIVE_ROW = (
    "{function}(): {name} has the row number {number}, but rows count from 0: add the number of rows to count from the "
    "end"
)
NO_SUCH_ROW = "{function}(): {name} has the row number {number}, but there are {rows} rows: leave it out"
THRESHOLD = "{function}(): threshold must be in [-1, 1], as cosines are, not {threshold}"
TOO_MANY_PAIRS = (
    "{function}(): more than max_pairs={max_pairs} pairs reach {threshold}, {count} in all: raise max_pairs or the "
    "threshold"
)
NO_ROWS = "{function}(): {name} has no rows: pass at least one {arrays}"
NO_ELEMENTS = (
    "{function}(): rows of {name} have no elements: pass rows of at least one element, or np.empty((0, D)) for no rows "
    "{arrays}"
)
IN_PATH = "{function}(): {name}: {error}"
WRONG_SLICE = "{function}(): a slice of {name} must have {wanted}, as {name} declares: open it again {arrays}"
LAZY = "{function}(): {name} is a Dask array: compute() it, or use topk, pairs_above or duplicate_groups"
THRESHOLD_SECOND = (
    "{function}(): threshold must be a number, not {kind}: it is the second argument, {function}(rows, threshold, ...)"
)
M_SECOND = (
    "top_pairs(): m must be an integer, not {kind}: it is the second argument, top_pairs(x, m) or top_pairs(x, m, y)"
)
COUNT_OF_RESULTS = (
    "{function}(): {name} must be an integer, not {kind}: it is a number of results; pairs_above gives all pairs that "
    "reach a threshold such as {value}"
)
K_THIRD = "topk(): {name} must be rows, not {kind}: k is the third argument, such as topk(x, None, k)"
NO_FILE = "{function}(): {name} names no file: pass an array, or the path of a file that exists"
NOT_AN_INDEX = "Index.load(): the arrays in {path} are not those of an index: load a file that Index.save wrote"

EMPTY_INDEX = "Index(): pass a corpus, or the number of elements of later rows, such as Index(dim=384)"
DIM_BY_NAME = (
    "Index(): corpus must be rows, not {kind}: pass the number of elements of later rows by name, such as "
    "Index(dim=384)"
)
OTHER_DIM = "Index(): dim={dim} but the rows of corpus have {size} elements: leave dim out {arrays}"
BITS_DIM = "Index(): dim must be a multiple of 8 with binary=True, not {dim}: it is the number of bits of a row"
OTHER_LENGTH = (
    "{function}(): rows must have {size} elements, as those of the index: pass vectors of the same model {arrays}"
)
NOT_EXACT = (
    "{function}(): {source} rows may change when converted to {target}, the dtype of the index: pass "
    "rows.astype({target!r}) if that is acceptable, or begin with Index(np.empty((0, D), {source!r}))"
)
NUMBERS = (
    "{function}(): numbers must be integers, as add returns them, not {kind}: pass an integer or an array of them, and "
    "np.flatnonzero(mask) in place of a mask"
)
NUMBER_UNKNOWN = (
    "{function}(): no row has the number {number}, because only {given} numbers have been given so far: index.numbers "
    "lists those of all rows"
)
NUMBER_REMOVED = "{function}(): row {number} was removed: index.numbers has the numbers of the rows that are left"
NUMBER_TWICE = "{function}(): number {number} occurs twice: pass each number once, such as np.unique(numbers)"
NOT_AN_ARRAY = "an Index is not an array: pass index.corpus, the array of its rows"

WEIGHT = "{function}(): weight must be from 0 to 1, not {weight}: 1 gives the rows of topk"
NOT_DOCUMENTS = (
    "{function}(): documents must be a list of arrays of shape (tokens, D), not {kind}: pass list(documents.values()) "
    "for a dict; if one array, one file or an Index holds all rows, pass offsets= too"
)
NOT_A_DOCUMENT = (
    "{function}(): document {number} must have shape (tokens, D) and at least one row: leave it out, or pass the "
    "offsets of documents that are in one array {arrays}"
)
VECTOR_AS_DOCUMENT = (
    "{function}(): document {number} is one vector, and a document has shape (tokens, D): pass [x] for one document x, "
    "or the offsets of documents that are in one array {arrays}"
)
OFFSETS = (
    "{function}(): offsets must be integers that ascend from 0 to the number of rows of documents, so that each "
    "document has a row: np.cumsum([0, *lengths]) makes them from lengths {arrays}"
)

NO_INDEX_OF_SPARSE = "{function} was fitted with sparse rows, so it has no Index: call its own methods"
RADIUS = "{function}(): radius must be in [0, 2], as cosine distances are, not {radius}"
MODE = "{function}(): mode must be one of {modes}, not {mode!r}"

# ---- search: results ----

IDS_KIND = (
    "{function}(): ids must be a list, an array, a Series or a dict of ids, not {kind}: pass frame['id'] or rows.ids"
)
TOO_FEW_IDS = "{function}(): ids has {count} elements, but row {number} was found: pass one for each row"
NO_ID = "{function}(): ids has no id for row {number}, which was found: pass a dict with the id of each row number"
NOT_A_SHAPE = "{function}(): shape must be (rows, columns), not {shape}"
CSR_SHAPE = "{function}(): number {number} does not fit into axis {axis} of shape {shape}: pass a larger shape"
# ---- search: sparse rows ----

SPARSE_SHAPE = (
    "{function}(): {name} must have 2 dimensions: rows are vectors, shape (N, D), not {shape}: pass one sparse vector "
    "as {name}.reshape(1, -1)"
)
SPARSE_BINARY = "{function}(): binary=True is for packed bits, and not for sparse rows: leave it out"
SPARSE_DIM = (
    "{function}(): dim must be 1 for sparse rows, whose vectors are rows, not {dim}: pass dim=1, and for columns the "
    "transpose, .T"
)
SPARSE_VECDOT = "{function}() does not take sparse rows: use x1.multiply(x2).sum(axis=1)"
SPARSE_OUT = "{function}(): out must be an array of shape {shape}"
SPARSE_NORMALIZE_OUT = "{function}(): out cannot be used with sparse rows: the result is a new sparse matrix"

# ---- search: Dask arrays ----

LAZY_OUT = "{function}(): out must be left out for Dask arrays, whose results are lazy: use dask.array.store"
LAZY_PROGRESS = (
    "{function}(): progress must be left out for Dask arrays, whose results are lazy: use "
    "dask.diagnostics.ProgressBar or the dashboard"
)
LAZY_EXCLUDE = "{function}(): exclude is a Dask array: pass exclude.compute()"
LAZY_MASK = (
    "{function}(): where is a Dask array, so it must be a mask of shape {shapes}: for row numbers pass where.compute() "
    "{arrays}"
)
NOT_A_DASK_ARRAY = "{function}(): {name} must be a dask.array.Array, not {kind}"
UNEQUAL_CHUNKS = (
    "{function}(): chunks of unknown size must be equal, but have {sizes} elements: call compute_chunk_sizes() on "
    "both arrays, and rechunk() one of them"
)
UNKNOWN_CHUNKS = "{function}(): {name} has chunks of unknown size: call {name}.compute_chunk_sizes() first"

# ---- search: index files ----

# All but the last two are written after the path.
NOT_INDEX_FILE = "not an index file of cossim{kind}: load a file that Index.save wrote"
INDEX_VERSION = "its format has version {version}, but this cossim reads versions 1 and 2: update cossim"
INDEX_CUT_OFF = "cut off: {size} bytes of {expected}: copy the file again"
INDEX_TOO_LONG = "{extra} bytes too long: {size} bytes, not {expected}: copy the file again"
INDEX_DAMAGED = "damaged: {part} do not match their checksum: copy the file again, or save the index again"
INDEX_HEADER = "damaged: no index has such a header: save the index again"
INDEX_BOOL = "damaged: bytes of the bool array {name!r:.60} are neither 0 nor 1: save the index again"
INDEX_CUT_OFF_MEANWHILE = "cut off while it was read: copy the file again"
INDEX_HEADER_TOO_LONG = "{path!r}: the header would have {size} bytes, and at most {most} are allowed: save fewer rows"
NEEDS_ML_DTYPES = "{path!r} holds bfloat16, which needs ml_dtypes: pip install ml_dtypes"

# ---- files: any ----

IN_FILE = "{path}: {error}"
NOT_REGULAR = "{path!r}: not a regular file: save the data of a pipe or device to a file first"
FORKED = "the process was forked while it wrote this file, and only the original one can finish it: write another file"
# The text of an OSError, which stands between its number and its path.
OTHER_FILE = "not a regular file: choose another path"
WRITE_PROTECTED = "the file there is write-protected: change its permissions or choose another path"
NO_FOLDER = "the folder does not exist: create it first"

# ---- files: .npy. These are written after the path. ----

TRUNCATED = "truncated: shape {shape} takes {expected} bytes after the header, found {found}: copy the file again"
TOO_LONG = "too long: shape {shape} takes {expected} bytes after the header, found more: copy the file again"
ARCHIVE = "an archive such as .npz, where a single array, .npy, is needed: save one array of it with numpy.save"
GZIPPED = "a gzip file, where a .npy file is needed: unpack it first, as gunzip does"
NOT_NPY = "not a .npy file, because it begins with {start}: save the array with numpy.save"
NPY_VERSION = "a .npy file of an unknown version, or a damaged one: save the array with numpy.save"
DAMAGED_HEADER = "the header is damaged: copy the file or save the array again"
IMPOSSIBLE_SHAPE = "the header is damaged, no array has the shape {shape}: copy the file or save the array again"
PYTHON_OBJECTS = "an array of Python objects, dtype {dtype}: save an array of numbers, such as np.stack(rows)"

# ---- files: rows. Those without a path are written after it. ----

DAMAGED_ROWS = "{path}: damaged, or of another format than its suffix says: {error}"
NEEDS_EXTRA = "{path}: this format needs {package}: pip install 'cossim-c[files]'"
DATASET_CLOSED = (
    "{function}(): {name} is a dataset of a file that is closed: open the file again, and close it after the call"
)
ROWS_CLOSED = "{path}: the rows are closed: open them again with cossim.open_rows"
ROWS_COPY = "{path}: its rows are not in memory with this dtype: leave copy=False out"
ROWS_PATHS = (
    "open_rows(): path_or_paths must be a path or a list of paths, at least one, not {paths}: pass arrays to the "
    "functions themselves"
)
ROWS_FOLDER = (
    "{path}: the files in this folder have the suffixes {suffixes}: pass a pattern such as {pattern!r}, or a list"
)
ROWS_PATTERN = "{path}: there is no file: change the folder or the pattern"
ROWS_INDEX = "row {index} is out of range for {count} rows: use -N to N - 1"
ROWS_DTYPE = "the elements must be real numbers of at most 64 bits, not {dtype}: save them as float32 or float64"
ROWS_BFLOAT16 = (
    "NumPy saves bfloat16 as {dtype}, without its name: pass dtype=ml_dtypes.bfloat16 to open_rows, or save as float32"
)
ROWS_SHAPE = "an array of shape {shape}, where rows of vectors, shape (N, D), are needed: reshape it"
ONE_VECTOR = "an array of shape {shape}, where rows of vectors, shape (N, D), are needed: save one vector as x[None]"
ROWS_SPARSE_FORMAT = "sparse rows in the format {format}: save them as CSR, scipy.sparse.save_npz(path, matrix.tocsr())"
ROWS_SPARSE_DAMAGED = "the arrays of its sparse rows do not fit together: save the matrix again with save_npz"
ROWS_SPARSE_MIXED = "{path} and {first} are not of one kind, sparse or dense: open them one by one"
ROWS_FORMAT = (
    "no known format: rename the file to one of the suffixes {suffixes}, pass dtype= and shape= of raw elements, or "
    "open a saved index with Index.load"
)
ROWS_WHOLE_JSON = (
    "no known format, JSON without a row in each line: convert it, such as "
    "pandas.read_json({path!r}).to_parquet({new!r})"
)
ROWS_PICKLE = "no known format, a pickle, which is never loaded: load it yourself, and numpy.save({new!r}, vectors)"
ROWS_NOT_RAW = "shape= and offset= are for raw elements, and {suffix} files have their own: leave them out"
ROWS_RAW = "raw elements have no header: pass both dtype= and shape=, such as shape=(-1, 128)"
ROWS_RAW_SHAPE = "shape={shape} must be D, (-1, D) or (N, D), and offset={offset} must lie in the file: change them"
ROWS_SIZE = "shape {shape} takes {expected} bytes in all, found {size}: copy the file again, or change dtype and shape"
ROWS_VECS = "rows of {dim} elements, as its first bytes say, do not fill {size} bytes: copy the file again"
ROWS_VECS_LENGTH = "row {row} has {length} elements, and row 0 has {dim}: all must have the same number"
ROWS_SAFETENSORS_HEADER = "the header does not fit the file, which is cut short or damaged: copy it again"
ROWS_BOOL = "an array of bool holds bytes other than 0 and 1: save it again"
ROWS_OWN_DTYPE = "{suffix} files have a dtype of their own: leave dtype= out, and convert slices with astype"
ROWS_TEXT_DTYPE = "numbers of text become floats of at most 64 bits, not {dtype}: pass dtype=float or leave it out"
ROWS_PLAIN_FILE = "{suffix} files need random access: unpack it first, as gunzip does, and read it from a file"
ROWS_UNNAMED = "rows in this format have no name: leave {name!r} out"
ROWS_NONE = "it has no rows of vectors: save real numbers of shape (N, D), or a column of lists of equal lengths"
ROWS_MANY = "it has {count} arrays or columns of vectors, so a name is needed, one of: {names}"
ROWS_NO_SUCH = "it has nothing named {name!r}: choose one of {names}"
ROWS_NO_IDS = "it has no column of ids {ids!r}: that of word2vec and GloVe is called 'word', and arrays have none"
ROWS_SHARDS = (
    "rows of {path} have shape {other_shape} and dtype {other}, those of {first} {shape} and {dtype}: choose files of "
    "one kind"
)
ROWS_GZIP_CUT = "the gzip file is cut short: copy it again"
ROWS_LONG_LINE = "row {row} has more than {size} MiB: check that rows end with line ends"
ROWS_LONG_WORD = "a word has more than {size} bytes: check that this is word2vec's binary format"
ROWS_WORD2VEC_HEADER = (
    "not word2vec's binary format, which begins with a line of N and D: for raw elements pass dtype= and shape="
)
ROWS_CHANGED = "rows from {row} on have shape {shape}, not {wanted}: check that each row is one line of as many values"
ROWS_COUNT = "the header says {count} rows, found {found}: copy the file again"
ROWS_NO_NUMBERS = "no row ends with numbers: check that each line is a word and D numbers, or numbers alone"
ROWS_LINE = "row {row} does not have {dim} numbers: {text!r}: correct the line or leave it out"
ROWS_NULL = "row {row} has a missing value: fill it or leave the row out"
ROWS_TEXT = (
    "row {row} has {value!r} in column {name!r}, which has numbers: correct it or leave the row out, or choose the "
    "column as ids"
)
ROWS_LENGTH = "row {row} has {length} elements, and others have {dim}: all must have the same number"
ROWS_EMPTY = "it has no rows: choose another file"
ROWS_TWICE = "two columns have the name {name!r}: rename one"
ROWS_LISTS = (
    "a list in column {name!r} cannot be read, {error}: write lists of numbers such as [0.5, 2], as .tolist() makes "
    "them of NumPy arrays"
)
ROWS_JSON = "each line must be an object, or an array of numbers: write one row per line"

# ---- nn: layers ----

LAYER_DTYPE = "dtype must be float32 or float64, not {dtype}"
DIFFERENT_DTYPES = "{function}(): {name} and {other} must have the same dtype: convert one with astype {arrays}"
NOT_A_PAIR = "{function}(): {name} must be an integer or a pair of them, not {value}"
PADDING = "conv2d(): padding must be an integer, a pair, 'same' or 'valid', not {padding!r}"
SAME_NEEDS_STRIDE_1 = "conv2d(): padding='same' needs stride 1, not {stride}: pass padding as a number"
SAME_TOO_LARGE = (
    "conv2d(): padding='same' would add too many zeros for the kernel {kernel} with dilation {dilation}: make one of "
    "them smaller"
)
PADDING_MODE = "Conv2d(): padding_mode must be one of {modes}, not {mode!r}"
PADDING_MODE_TOO_LARGE = (
    "Conv2d(): padding {padding} is too large for padding_mode={mode!r} and images of size {size}: pad less, or with "
    "zeros"
)
CONV_WEIGHT = "conv2d(): weight must have 4 dimensions, (O, C // groups, KH, KW) {arrays}"
CONV_IMAGES = "conv2d(): x must have 4 dimensions, (N, C, H, W), or 3 for one image {arrays}"
CONV_GROUPS = "conv2d(): groups={groups} must divide the number of filters, {filters}, which must not be 0 {arrays}"
CONV_CHANNELS = (
    "conv2d(): x has {channels} channels, and weight needs {wanted} (weight.shape[1] * groups): change one of them "
    "{arrays}"
)
CONV_EMPTY = "conv2d(): the kernel of weight has no elements {arrays}"
CONV_KERNEL = (
    "conv2d(): the padded image {padded} is smaller than the kernel {kernel} with dilation {dilation}: pad more, or "
    "take larger images {arrays}"
)
LAYER_GROUPS = "Conv2d(): groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
WRONG_BIAS = "{function}(): bias must have shape {wanted} {arrays}"
POOL_PADDING = "{function}(): padding {padding} must be at most half of kernel_size {kernel}"
POOL_IMAGES = "{function}(): x must be (N, C, H, W), or (C, H, W) for one image, with C, H and W above 0 {arrays}"
POOL_EMPTY = "{function}(): the result would have size {size}: take a smaller kernel_size or larger images {arrays}"
POOL_INDICES = "MaxPool2d(return_indices=True) has no vjp, because indices have no gradient: leave return_indices out"
POOL_DIVISOR = "{function}(): divisor_override must be a 64-bit integer other than 0, not {value}"
BATCH_NORM_EPS = "batch_norm(): eps must be finite, at least 0, and above 0 in training, not {eps}"
BATCH_NORM_IMAGES = "batch_norm(): x must have channels as its dimension 1, (N, C, ...): reshape it {arrays}"
BATCH_NORM_SHAPE = "batch_norm(): {name} must have shape ({channels},), one number for each channel of x {arrays}"
BATCH_NORM_CHANNELS = "BatchNorm2d(): x must be images (N, {channels}, H, W), as num_features says {arrays}"
BATCH_NORM_STATISTICS = "batch_norm(): running_mean and running_var are needed unless training=True: pass both"
BATCH_NORM_ONE = "batch_norm(): one value for each channel has no variance: take more images, or call eval() {arrays}"
GELU = "{function}(): approximate must be 'none' or 'tanh', not {approximate!r}"
PROBABILITY = "{function}(): {name} must be a probability, from 0 to 1, not {value!r}"
LINEAR_WEIGHT = "linear(): weight must be (O, D) or (D,), where D is the last size of x {arrays}"
FLATTEN_DIM = "Flatten(): dim {dim} is out of range: it must be from {least} to {most} {arrays}"
FLATTEN_ORDER = "Flatten(): end_dim {end} is before start_dim {start} {arrays}"
NO_VJP = "{layer} has no vjp: give the class a method vjp(x) that returns (y, pullback)"
IN_LAYER = "layer {name!r}: {error}"
NOT_A_LAYER = "{name} of {layer} must be callable, not {kind}: assign a layer to it"
NOT_CALLABLE = "Sequential(): layer {name!r} must be callable, not {kind}"

# ---- nn: weights ----

NEEDS_SAFETENSORS = "reading and writing .safetensors needs safetensors: pip install 'cossim-c[weights]'"
WEIGHTS_SUFFIX = (
    "{path}: the name of a weights file must end in .npz or .safetensors: choose another name, or pass the dict that "
    "torch.load returns"
)
NOT_A_NUMPY_TYPE = "{path}: it holds numbers of type {dtype}, which NumPy does not have: save them as F32"
NOT_WEIGHTS = "{path}: damaged, or not a {suffix} file: {error}"
UNNAMED_ARRAY = "it holds a single array without a name: write it with save_weights"
IN_ARCHIVE = "{member!r} in it: {error}"
NOT_A_DICT = "save_weights(): state_dict must be a dict of arrays, not {kind}"
NOT_A_DICT_OR_PATH = "load_state_dict(): state_dict must be a dict of arrays or a path, not {kind}"
NOT_A_NAME = "{function}(): names of arrays must be str, not {name!r}"
UNSAVED_DTYPE = "save_weights(): NumPy cannot read back {name}, which is {dtype}: float32 has the same values"
UNSAVED_NAME = "save_weights(): a {suffix} file cannot hold an array by the name {name}: rename it"
PROBLEMS = "{function}(): {problems}"
DOES_NOT_FIT = "load_state_dict(): {source} does not fit {target}: {problems}"
# Values of {problems} in the two messages above.
MISSING = "{name} is missing"
UNEXPECTED = "{name} is not expected"
WRONG_SHAPE = "{name} must have shape {wanted}, not {shape}"
READ_ONLY = "{name} is read-only: make it writeable with setflags"
REPLACED = "{name} of the layer must be a NumPy array, not {kind}: assign one to it"
WRONG_STEP = "step must be a whole number of at least 0, not {step}"

# ---- nn: optimizers ----

NOT_FINITE = "{function}(): {name} must be a finite number{bound}, not {value!r}"
NOT_PARAMETERS = "{function}(): parameters must be a Module or a dict of arrays, not {kind}"
NOT_A_PARAMETER = "{function}(): {name} must be a NumPy array, not {kind}: pass or assign one"
NO_PARAMETERS = "{function}(): there are no parameters: pass at least one array"
SHARED_PARAMETER = "{function}(): {name} and {other} are the same array: pass it once"
NOT_GRADIENTS = "{function}(): gradients must be a dict with the keys of the parameters, not {kind}"
GRADIENT_DTYPE = "{function}(): {name} must have dtype {wanted}, not {dtype}: convert it with astype"
NESTEROV = "SGD(): nesterov needs a momentum above 0 and a dampening of 0, not {momentum!r} and {dampening!r}"
BETAS = "{function}(): betas must be a pair of numbers, not {betas!r}"
NO_LR = "{function}(): optimizer must have a learning rate as its attribute lr, as SGD and Adam have, not {kind}"
LR_FACTOR = "{function}(): {name} must be from {bound} to 1, not {value!r}"
SCHEDULERS = "SequentialLR(): schedulers must be a list of at least one schedule of this optimizer, not {schedulers!r}"
MILESTONES = "SequentialLR(): milestones must be {count} rising numbers of steps, one less than schedules, not {value}"

# ---- simclr ----

PIXELS = "{function}(): images must be float32, float64, or uint8 from 0 to 255, not {dtype}: convert them with astype"
IMAGES_OR_CHANNELS = "(N, C, H, W) or (N, H, W)"
IMAGES_PATH = "{function}(): images must be an array, not a path: load it, such as with numpy.load(path)"
IMAGES_SHAPE = "{function}(): images must have shape {wanted}, not {shape}: {remedy}"
TEMPERATURE = "{function}(): temperature must be above 0 and finite, not {temperature}"
SMALL_TEMPERATURE = (
    "{function}(): temperature {temperature} is too small for {dtype}, because 1 / temperature overflows: take a "
    "larger one"
)
VIEWS_SHAPE = "{function}(): z0 and z1 must have the same shape (N, D) {arrays}"
ONE_ARRAY_SHAPE = "{function}(): z0 must have shape (2 N, D) {arrays}"
VIEWS_DTYPE = "{function}(): {name} must be float32, float64 or integers, not {dtype}: convert it with astype"
PAIRS = "{function}(): pairs must be 'halves' or 'interleaved', not {pairs!r}"
INTERLEAVED = "{function}(): pairs='interleaved' takes one array with both views: leave z1 out {arrays}"
ODD_ROWS = "{function}(): z0 holds both views, so its number of rows must be even {arrays}"
LABELS_DTYPE = (
    "{function}(): labels must be integers of at most 64 bits, or bool, not {dtype}: pass "
    "np.unique(labels, return_inverse=True)[1]"
)
LABELS_SHAPE = "{function}(): labels must have shape {wanted}, one for each image, not {shape}"
NO_PAIRS = "{function}(): the views have no rows: pass at least one pair of rows {arrays}"
RNG = "augment(): rng must be a seed or a numpy.random.Generator, not {rng!r}: {error}"
NOT_NEGATIVE = "augment(): {name} must be at least 0 and finite, not {value!r}"
RANGE_TYPE = "augment(): {name} must be a pair of numbers, (low, high), not {value!r}"
RANGE_ORDER = "augment(): {name} must be (low, high) with low <= high, not {value!r}"
RANGE_OF_RATIOS = "augment(): {name} must be (low, high) with 0 < low <= high, both finite, not {value!r}"
ANGLE = "augment(): {name} must be between -{limit:.0f} and {limit:.0f} degrees, not {value!r}"
HUE = "augment(): {name} must be between -{limit} and {limit} turns, not {value!r}"
RANGE_OF_FACTORS = "augment(): {name} must be (low, high) with 0 <= low <= high, both finite, not {value!r}"
BLUR = "augment(): blur must be from 0 to {most} pixels, not {value!r}"
COLOUR_CHANNELS = "augment(): colours need images with 1 or 3 channels, not of shape {shape}: leave their options out"
TWO_IMAGES = "train(): at least two images are required, got {count}"
UNUSABLE_IMAGES = "train(): images of shape {shape} have {count} NaN or infinite numbers: replace them first"
NOT_AN_ENCODER = "train(): encoder must be a Module, not {kind}"
SMALL_IMAGES = (
    "train(): the default encoder takes images from {least} x {least} pixels, not of shape {shape}: pass encoder="
)
CHANNELS_LAST = (
    "{function}(): images must have shape (N, C, H, W), but those of shape {shape} seem to have channels last: pass "
    "images.transpose(0, 3, 1, 2)"
)
ENCODER_RESULT = "train(): the encoder must return embeddings of shape (N, D), not {kind}: end it with nn.Flatten()"
HEAD = "train(): head must be 'mlp', a Module or None, not {head!r}"
SCHEDULE = "train(): schedule must be 'cosine', a callable or None, not {schedule!r}"
CALLBACK = "train(): callback must be a callable of (epoch, step, loss), not {kind}"
OPTIMIZER = "train(): optimizer must be 'adam', 'sgd' or a callable, not {optimizer!r}"
AUGMENT = "train(): augment must be a dict of augment's keywords or a callable, not {kind}"
VIEW_NAME = "train(): augment has no keyword {name!r}: choose from {names}"
WRONG_VIEWS = "train(): augment must return an array of {dtype} and shape {shape}, not {kind}"
LOSS = (
    "train(): the loss of step {step} of {steps} in epoch {epoch} is {loss}: try a smaller lr or a larger temperature"
)
NOT_A_CHECKPOINT = "{path}: not a checkpoint of cossim.simclr.train: choose another path"
UNREADABLE_CHECKPOINT = "{path}: not a checkpoint of cossim.simclr.train: {error}"
CHECKPOINT_VERSION = (
    "{path}: a checkpoint of version {version}, and this cossim reads version {known}: choose another path"
)
DAMAGED_CHECKPOINT = "{path}: damaged, the arrays do not match their checksum: restore or remove the file"
OTHER_TRAINING = "{path}: a checkpoint of another training: {problems}: pass the same arguments, or another path"
# Values of {problems} in OTHER_TRAINING.
OTHER_IMAGES = "it was made from different images"
OTHER_ENCODER = "its encoder began with different parameters"
OTHER_HEAD = "its head began with different parameters"
OTHER_SETTING = "{name} was {saved} and is now {value}"
MORE_STEPS = "it has {saved} steps, but all epochs together have {steps}"

# ---- command line: files of images. These are written after the path. ----

NOT_IMAGES = "neither an idx nor a .npy file, because it begins with {start}: save the images with numpy.save"
IDX_TYPE = "idx elements of type 0x{kind:02x}, but images have unsigned bytes, 0x08: save the images with numpy.save"
IDX_TRUNCATED = "truncated: the sizes of {rank} dimensions take {expected} bytes, found {found}: copy the file again"
IMAGES_DTYPE = "images must be real numbers, not {dtype}"
IMAGES_FILE_SHAPE = "images must have shape (N, 28, 28), (N, 1, 28, 28) or (N, 784), not {shape}"
IMAGES_NOT_FINITE = "{count} numbers are NaN or infinite in float32: replace them first"
NO_IMAGES = "{path}: it has no images: choose another file"

# ---- command line ----

WRITE_FAILED = "{path}: no file can be written there: {reason}"
STDOUT_FAILED = "standard output: {reason}"
STDOUT_CLOSED = "it is closed: write to a file with -o"
NEEDS_SCIKIT_LEARN = "without --images FILE, the demo takes its images from scikit-learn: pip install 'cossim-c[demo]'"
NEEDS_MATPLOTLIB = "without --no-plot, the demo draws a heatmap with matplotlib: pip install 'cossim-c[demo]'"
NO_NAMES = "{path}: there is no such file: --ids takes a file with the name of one row in each line"
NAMES_COUNT = "{path}: write {count} lines, a name for each row of {corpus}, not {found}"
NUMBERS_ALONE = "{path}: .safetensors holds only numbers: leave --ids out, or write .npz"
STDIN_FORMAT = "standard input: a {suffix} file, where .npy or text is needed: pass the path of the file"
SPARSE_FILE = (
    "{path}: sparse rows, where dense ones are needed: save matrix.toarray() with numpy.save if it fits into memory, "
    "or use topk or pairs, which take sparse rows"
)
STDIN_TWICE = "argument {name}: standard input can be read once: name a file"
BITS_DTYPE = "packed bits must be uint8, not {dtype}: pack the signs of numbers with numpy.packbits(rows > 0, axis=1)"
INDEX_ROWS_DTYPE = (
    "{path}: {source} rows may change when converted to {target}, the dtype of {index}: if that is acceptable, "
    "numpy.save({new!r}, {rows}.astype({target!r}))"
)
MANY_COLUMNS = "argument --column: more names than files"
ROW_LENGTHS = "rows of {path} have {size} elements, rows of {other} {other_size}: choose files of one model"
# argparse writes all but the last after "argument NAME: "
NOT_64_BITS = "{text} does not fit 64 bits"
LESS_THAN = "{text} is not at least {least}"
NOT_A_SIZE = "{text!r} is not an amount of memory, such as 256M, 1.5G or a number of bytes"
SIZE_RANGE = "{text!r} is not from 1 to {most} bytes"
SUFFIX = "{text!r} does not end in {suffixes}"
SAME_FILE = "{name} names the same file: choose another"
WITHOUT_THRESHOLD = "argument --max-pairs: not allowed without -t/--threshold"
NOT_WITH_GROUPS = "argument --groups: not allowed with OTHER, --max-pairs, --where or --exclude"
NO_FILTER = "{path}: there is no such file: --{name} takes a file of row numbers"
FILTER_FILE = "{path}: an array of {dtype}: --{name} takes row numbers: write some first, such as echo 0 2 > {new}"
FILTER_NUMBERS = "argument --{name} takes a file, not row numbers: write one first, such as echo {numbers} > {new}"
NOT_ROW_NUMBERS = "{path}: {text!r:.40} is not a row number: write whole numbers, or save a mask as .npy"
