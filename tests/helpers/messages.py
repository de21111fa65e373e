"""Error messages, each with a call or a command line that gives it: the table of test_messages.py.

messages_networks.py has those of layers, weights, optimizers and SimCLR.

A row is either "call -> type of its error: message", or "command line -> exit code: text on stderr". Indented lines
continue a row.
"""

TABLE = r"""
# ---- vectors ----
vecdot(X, Y) -> ValueError: vecdot(): the shapes of x1 and x2 do not broadcast: sizes 6 and 5 meet at dimension -2: make
    them equal, or one of them 1 (x1: shape (6, 4), dtype float64; x2: shape (5, 4), dtype float64)
pairwise(X, X, X) -> TypeError: pairwise() takes at most 2 positional arguments (3 given)
pairwise(X, z=X) -> TypeError: pairwise() got an unexpected keyword argument 'z'
pairwise(X, x=X) -> TypeError: pairwise() got multiple values for argument 'x'
cosine_similarity(X) -> TypeError: cosine_similarity() missing required argument 'x2': to compare the rows of one array
    with each other use cossim.pairwise(x)
cosine_similarity(x1=X) -> TypeError: cosine_similarity() missing required argument 'x2'
pairwise([[1], [2, 3]]) -> ValueError: pairwise(): rows of x must be equally long: row 1 has 2 elements, and row 0 has 1
pairwise([[1, 2], None]) -> ValueError: pairwise(): row 1 of x is null: drop or fill nulls first
pairwise([[1, 2], [3, None]]) -> ValueError: pairwise(): row 1 of x has a null in it: drop or fill nulls first
pairwise(NoArray()) -> ValueError: pairwise(): x cannot be read as an array: it has no numbers
vecdot(NeedsGrad(), X) -> TypeError: vecdot(): x1 requires grad, and no gradient goes through this call: pass
    x1.detach()
pairwise(NeedsGrad()) -> TypeError: pairwise(): x requires grad, and no gradient goes through this call: pass
    x.detach(), and take gradients from cossim.pairwise_vjp
simclr.nt_xent(NeedsGrad()) -> TypeError: nt_xent(): z0 requires grad, and no gradient goes through this call: pass
    z0.detach(), and take gradients from cossim.simclr.nt_xent_value_and_grad
pandas and pairwise(pandas.DataFrame({"a": [1], "b": ["text"]})) -> ValueError: pairwise(): x is a table without a
    column of vectors: pass its columns of numbers alone (a), or turn text into vectors with a model
# ---- DLPack and Arrow ----
pairwise(NoCapsule()) -> TypeError: pairwise(): __dlpack__ of x must return a new DLPack capsule, not int
pairwise(dlpack.Exporter(device_type=2)) -> TypeError: pairwise(): x is on the device DLPack type 2: copy it to the CPU
    first, such as x.cpu()
pairwise(dlpack.Exporter(code=10, bits=8)) -> TypeError: pairwise(): x has elements of DLPack type 10 with 8 bits in 1
    lanes, which NumPy lacks: convert them to float32
pairwise(dlpack.Exporter(version=(2, 1))) -> ValueError: pairwise(): x comes as DLPack 2.1, and this cossim reads DLPack
    1: convert it to a NumPy array
pairwise(dlpack.Exporter(data=None)) -> ValueError: pairwise(): the DLPack tensor of x is malformed: its shape and
    strides fit no memory
pairwise(NoCapsules()) -> TypeError: pairwise(): the Arrow export of x must be new capsules of a schema and an array, or
    of a stream
pairwise(arrow.Chunks(*arrow.lists(X), fails_at=0, text=b"the disk is gone")) -> ValueError: pairwise(): the Arrow
    stream of x failed: the disk is gone
pairwise(arrow.OneArray(*arrow.lists(X, null_count=7))) -> ValueError: pairwise(): the Arrow data of x are malformed: a
    number of nulls is impossible
pairwise(arrow.OneArray(*arrow.nulls(X, 3))) -> ValueError: pairwise(): row 3 of x is null: drop or fill nulls first
pairwise(arrow.OneArray(*arrow.nulls(X, 3, 1))) -> ValueError: pairwise(): row 3 of x has a null in it: drop or fill
    nulls first
pairwise(arrow.OneArray(arrow.Field("u"), arrow.Data(0, []))) -> TypeError: pairwise(): x has Arrow elements of type
    string, which are not numbers: pass numbers, or lists of numbers
pairwise(arrow.OneArray(*arrow.nested(9))) -> TypeError: pairwise(): x has lists in lists in lists, 8 deep: pass lists
    of numbers
pairwise(arrow.Chunks(*arrow.lists(X), arrow.lists(X[:, :3])[1])) -> ValueError: pairwise(): rows of x must be equally
    long: row 6 has 3 elements, and row 0 has 4
pairwise(arrow.OneArray(*arrow.table({c: arrow.lists(X) for c in "ab"}, 6))) -> ValueError: pairwise(): x is a table
    with 2 columns of vectors, where one is needed: pass one of its columns (a, b), or its columns of numbers alone
pairwise("some text") -> FileNotFoundError: [Errno 2] pairwise(): x names no file: pass an array, or the path of a file
    that exists: 'some text'
pairwise(np.array(["text"])) -> TypeError: pairwise(): x must hold real numbers, not text: open a file with
    cossim.open_rows(path), convert digits with astype(float), turn sentences into vectors with a model (x: shape (1,),
    dtype <U4)
pairwise(np.array([[1, 2], [3, "four"]], object)) -> TypeError: pairwise(): x[1, 1] is text, 'four': pass numbers, such
    as the vector of a model
pairwise([torch.ones(3), torch.ones(3, device="meta")]) -> TypeError: pairwise(): x is on the device meta: copy it to
    the CPU first, such as x.cpu()
topk(X, Index(Y), 1) -> TypeError: topk(): corpus is an Index: call its topk or pairs_above, or pass its corpus
topk(UserDict(x=X, y=Y), X, 1) -> TypeError: topk(): queries holds arrays by name, as UserDict: pass one of them, such
    as queries['x']
pairwise(SimpleNamespace(collect=list)) -> TypeError: pairwise(): x is lazy, a SimpleNamespace: pass x.collect()
topk({}, X, 1) -> TypeError: topk(): queries must be an array of real numbers, not dict: pass an array or nested lists
pairwise(np.array([{}, 1], object)) -> TypeError: pairwise(): x must hold real numbers, not Python objects: make one
    array of numbers first, for example with numpy.stack (x: shape (2,), dtype object)
pairwise(X.astype(object)) -> TypeError: pairwise(): x holds its numbers as Python objects: convert it with
    astype(float) (x: shape (6, 4), dtype object)
pairwise(X.astype(np.longdouble)) -> TypeError: pairwise(): x must hold real numbers (float64, float32, float16,
    bfloat16, integers or bool): convert it with astype (x: shape (6, 4), dtype float128)
pairwise(X[None]) -> ValueError: pairwise(): x must hold vectors as rows, shape (N, D), or be one vector, shape (D,):
    reshape it, such as x.reshape(-1, D) (x: shape (1, 6, 4), dtype float64)
pairwise(X, out=[1]) -> TypeError: pairwise(): out must be a numpy.ndarray, not list
pairwise(X, out=np.ones((6, 6), int)) -> TypeError: pairwise(): out must be of dtype float64, float32, float16 or
    bfloat16 (out: shape (6, 6), dtype int64)
pairwise(X, out=X) -> ValueError: pairwise(): out must have shape (6, 6), not (6, 4) (x: shape (6, 4), dtype float64)
pairwise(X, out=np.broadcast_to(1.0, (6, 6))) -> ValueError: pairwise(): out is read-only: pass a writeable array (out:
    shape (6, 6), dtype float64)
cossim.cosine -> AttributeError: module 'cossim' has no attribute 'cosine'
COSSIM_VECTOR_BITS=128 cossim info -> 1: cossim: COSSIM_VECTOR_BITS=128 must be 256 or 512: change or unset it
COSSIM_NUM_THREADS=abc cossim info -> 1: cossim: COSSIM_NUM_THREADS=abc must be a whole number from 1 to 2147483647:
    change or unset it
cosine_similarity(X[0], X[0], 1) -> AxisError: cosine_similarity(): dim 1 is out of range for 1 dimension: for single
    vectors leave dim out (x1: shape (4,), dtype float64; x2: shape (4,), dtype float64)
cosine_similarity(X, X, 0.0) -> TypeError: cosine_similarity(): dim must be an integer, not float
cosine_similarity(X, X, 0, axis=1) -> TypeError: cosine_similarity() got both dim and axis, which are two names of one
    argument: pass one of them
vecdot(X, X, -(2**100)) -> AxisError: vecdot(): dim is out of range for 2 dimensions: it must be from -2 to 1 (x1:
    shape (6, 4), dtype float64; x2: shape (6, 4), dtype float64)
vector_norm(X, (0, -2)) -> ValueError: vector_norm(): dim 0 is named twice: name each dimension once (x: shape (6, 4),
    dtype float64)
cosine_similarity(X, X, eps=-1.0) -> ValueError: cosine_similarity(): eps must be at least 0, not -1.0: it is the
    smallest norm to divide by, such as 1e-8
cosine_similarity(X, X, eps="1") -> TypeError: cosine_similarity(): eps must be a number, not str
cosine_similarity(X, X, eps=10**400) -> ValueError: cosine_similarity(): eps must be a number that fits a float64
cosine_similarity(X, X, out=np.ma.zeros(6)) -> TypeError: cosine_similarity(): out is a masked array, whose mask would
    not change: pass out.data or a plain array
pairwise(X, binary=True) -> TypeError: pairwise(): with binary=True x must hold packed bits, dtype uint8: pack the signs
    of numbers with numpy.packbits(x > 0, axis=1) (x: shape (6, 4), dtype float64)
pairwise(np.ones((2, 0), np.uint8), binary=True) -> ValueError: pairwise(): rows of x have no bits: pass rows of at
    least one byte (x: shape (2, 0), dtype uint8)
pairwise(np.broadcast_to(np.uint8(1), (2, 2**28)), binary=True) -> ValueError: pairwise(): rows of x have more than
    268435455 bytes: pass parts of them (x: shape (2, 268435456), dtype uint8)
pairwise(np.ma.ones((2, 2))) -> TypeError: pairwise(): x is a masked array, whose mask would be ignored: pass
    x.filled(...) or a plain array
pairwise(X.astype(complex)) -> TypeError: pairwise(): x must hold real numbers, not complex ones: pass x.real, or both
    parts as columns (x: shape (6, 4), dtype complex128)
cosine_similarity_vjp(X, X)[1](np.ones(3)) -> ValueError: cosine_similarity_vjp(): dy must have the shape and dtype of y
    (dy: shape (3,), dtype float64; y: shape (6,), dtype float64)
pairwise_vjp(X)[1](np.ones((6, 6), np.float32)) -> TypeError: pairwise_vjp(): dS must have the shape and dtype of S (dS:
    shape (6, 6), dtype float32; S: shape (6, 6), dtype float64)
cosine_similarity(X, Y) -> ValueError: cosine_similarity(): the rows of x1 and x2 do not broadcast, because there are 6
    and 5: for all pairs of rows use cossim.pairwise (x1: shape (6, 4), dtype float64; x2: shape (5, 4), dtype float64)
cosine_similarity([1, 2, 3], [4, 5]) -> ValueError: cosine_similarity(): x1 and x2 are vectors of different lengths, 3
    and 2: vectors of one model are equally long (x1: shape (3,), dtype int64; x2: shape (2,), dtype int64)
set_num_threads(2**100) -> ValueError: set_num_threads(): n must be at least 1 and at most 2147483647
set_num_threads(0) -> ValueError: set_num_threads(): n must be at least 1 and at most 2147483647, not 0
set_num_threads(1.5) -> TypeError: set_num_threads(): n must be an integer, not float
show_config(mode="json") -> ValueError: show_config(): mode must be 'stdout' or 'dicts', not 'json'
# ---- pictures ----
(hide("matplotlib.figure"), monkeypatch.delitem(sys.modules, "cossim.plot", False), __import__("cossim.plot")) ->
    ModuleNotFoundError: cossim.plot draws with matplotlib: pip install 'cossim-c[plot]'
plot.heatmap([1, 2]) -> ValueError: heatmap(): matrix must have two dimensions, not shape (2,): pass the scores of
    pairwise(x)
plot.histogram(X, "a") -> TypeError: histogram(): threshold must be a number, not str
plot.cluster_order(Y) -> ValueError: cluster_order(): an order needs a square matrix, not shape (5, 4): pass the scores
    of pairwise(x)
plot.heatmap(Y @ Y.T, order=[0, 0, 1, 2, 3]) -> ValueError: heatmap(): order must be 'clusters' or an order of the rows:
    pass the row numbers 0 to 4, each once
plot.heatmap(Y, list("abcd")) -> ValueError: heatmap(): labels has 4 names for 5 rows: pass a name for each
plot.neighbours(X, TopK(X, X)) -> ValueError: neighbours(): images must have shape (N, H, W), (N, 1, H, W), (N, 3, H, W)
    or (N, H, W, 3), not (6, 4): reshape them
plot.neighbours(P, topk(Y, Y, 1)) -> ValueError: neighbours(): the queries are 4 images, but found has results for 5:
    pass queries=, the images that were searched for
plot.neighbours(P, TopK(np.ones((4, 1)), np.full((4, 1), 7))) -> ValueError: neighbours(): found has row number 7, but
    there are 4 images: pass all images of the corpus
plot.neighbours(P, topk(X[:2], Y, 1), P[:2, :, :14]) -> ValueError: neighbours(): queries are images of (14, 28) pixels,
    and the corpus has (28, 28): resize one of them
# ---- search ----
topk(X, "objects.npy", 1) -> ValueError: topk(): corpus: objects.npy: an array of Python objects, dtype object: save an
    array of numbers, such as np.stack(rows)
topk(X, "/dev/null", 1) -> ValueError: topk(): corpus: '/dev/null': not a regular file: save the data of a pipe or
    device to a file first
topk(X, "nested.npy", 1) -> ValueError: topk(): corpus: nested.npy: the header is damaged: copy the file or save the
    array again
topk(X, WrongSlices(), 1) -> ValueError: topk(): a slice of corpus must have shape (4, 4), dtype float64, as corpus
    declares: open it again (corpus[0:4]: shape (1, 4), dtype float64)
Index(DX) -> TypeError: Index(): corpus is a Dask array: compute() it, or use topk, pairs_above or duplicate_groups
topk(X, Y, 2**63) -> ValueError: topk(): k must be below 2**63, not 9223372036854775808
topk(X, Y, 2**59) -> MemoryError: topk(): there is no memory for a result of shape (6, 576460752303423488): request
    less, or search in parts
Index(dim=2**62) -> ValueError: Index(): dim must be below 2**61, not 4611686018427387904
topk(X, Y, 2, where=[True, False]) -> ValueError: topk(): a mask in where must have shape (5,) or (6, 5), an element for
    each row to choose from: make it from their ids, such as np.isin(ids, wanted) (where: shape (2,), dtype bool)
(index := Index(X), index.remove(2), index.topk(X, 2, where=[True] * 5)) -> ValueError: Index.topk(): the mask in where
    has 5 elements, one for each row that is left, but it must count removed rows too, 6 in all: pass
    where=index.numbers[mask]
topk(X, Y, 2, where=[[1, 2]]) -> ValueError: topk(): row numbers in where must have shape (n,), and apply to all
    queries: if each query has its own rows, pass a bool mask (Q, N) (where: shape (1, 2), dtype int64)
topk(X, Y, 2, where=["a", "b"]) -> TypeError: topk(): where holds text, but rows are selected by their numbers or by a
    mask: pass where=np.isin(ids, wanted), or where=~np.isin(ids, unwanted) (where: shape (2,), dtype <U1)
topk(X, Y, 2, where=[0.5]) -> TypeError: topk(): where must be a bool mask or row numbers: convert it with astype(bool)
    or astype(int) (where: shape (1,), dtype float64)
topk(X, Y, 2, exclude=[True]) -> TypeError: topk(): exclude must hold row numbers: convert them with astype(int), and
    pass where=~mask in place of a mask (exclude: shape (1,), dtype bool)
topk(X, Y, 2, where=[1, -2]) -> IndexError: topk(): where has the row number -2, but rows count from 0: add the number
    of rows to count from the end
topk(X, Y, 2, exclude=[5]) -> IndexError: topk(): exclude has the row number 5, but there are 5 rows: leave it out
topk(X, Y, 2, exclude=[[1], [2]]) -> ValueError: topk(): exclude must have shape (m,) or (6, m): pass a list of row
    numbers, or one list for each query, the shorter ones padded with -1 (exclude: shape (2, 1), dtype int64)
topk(DX, DX, 2, exclude=DX) -> TypeError: topk(): exclude is a Dask array: pass exclude.compute()
topk(DX, DX, 2, where=DX) -> ValueError: topk(): where is a Dask array, so it must be a mask of shape (6,) or (6,
    6): for row numbers pass where.compute() (where: shape (6, 4), dtype float64)
(index := Index(X), index._state.arrays.update(corpus=Y), index.topk(X, 1)) -> ValueError: Index.topk(): the corpus has
    been changed since the index was made: make the index again (corpus: shape (5, 4), dtype float64)
Index() -> TypeError: Index(): pass a corpus, or the number of elements of later rows, such as Index(dim=384)
Index(X, dim=5) -> ValueError: Index(): dim=5 but the rows of corpus have 4 elements: leave dim out (corpus: shape (6,
    4), dtype float64)
Index(dim=9, binary=True) -> ValueError: Index(): dim must be a multiple of 8 with binary=True, not 9: it is the number
    of bits of a row
topk(X, Y, 1).to_list(ids={}) -> ValueError: TopK.to_list(): ids has no id for row 0, which was found: pass a dict with
    the id of each row number
Index(X).add(X[:, :3]) -> ValueError: Index.add(): rows must have 4 elements, as those of the index: pass vectors of the
    same model (rows: shape (6, 3), dtype float64)
Index(X.astype("f4")).add(X) -> TypeError: Index.add(): float64 rows may change when converted to float32, the dtype of
    the index: pass rows.astype('float32') if that is acceptable, or begin with Index(np.empty((0, D), 'float64'))
Index(X).remove(X[0] > 0) -> TypeError: Index.remove(): numbers must be integers, as add returns them, not bool: pass an
    integer or an array of them, and np.flatnonzero(mask) in place of a mask
Index(X).add(X, remove=2**64 - 1) -> IndexError: Index.add(): no row has the number 18446744073709551615, because only 6
    numbers have been given so far: index.numbers lists those of all rows
Index(X)[6] -> IndexError: Index.__getitem__(): no row has the number 6, because only 6 numbers have been given so far:
    index.numbers lists those of all rows
(index := Index(X), index.remove(2), index.remove([1, 2])) -> IndexError: Index.remove(): row 2 was removed:
    index.numbers has the numbers of the rows that are left
Index(X).remove([1, 1]) -> ValueError: Index.remove(): number 1 occurs twice: pass each number once, such as
    np.unique(numbers)
np.asarray(Index(X)) -> TypeError: an Index is not an array: pass index.corpus, the array of its rows
topk(X, 3) -> TypeError: topk(): corpus must be rows, not int: k is the third argument, such as topk(x, None, k)
Index.load(3) -> TypeError: Index.load(): path must be a str or os.PathLike, not int: pass the name of a file
Index(4) -> TypeError: Index(): corpus must be rows, not int: pass the number of elements of later rows by name, such as
    Index(dim=384)
topk(X, Y, 2.0) -> TypeError: topk(): k must be an integer, not float
topk(X[:, :3], Y, 1) -> ValueError: topk(): rows of queries have 3 elements, rows of corpus 4: they must be equally long
    (queries: shape (6, 3), dtype float64; corpus: shape (5, 4), dtype float64)
Index(Y[:0, :0]) -> ValueError: Index(): corpus has no rows: pass at least one (corpus: shape (0, 0), dtype float64)
neighbors(9).fit(X).kneighbors() -> ValueError: CosineNeighbors(): n_neighbors must be at most 5, the number of rows
    to choose from, not 9
topk(X[:, :0], Y[:, :0], 1) -> ValueError: topk(): rows of corpus have no elements: pass rows of at least one element,
    or np.empty((0, D)) for no rows (corpus: shape (5, 0), dtype float64)
topk(X, Y, 1, memory=0) -> ValueError: topk(): memory must be at least 1, not 0
topk(X, Y, 1, memory="1G") -> TypeError: topk(): memory must be a number of bytes, such as 2**30, not str
topk(X, Y, 1, progress=1) -> TypeError: topk(): progress must be None, a bool or a callable of (done, total), not int
pairs_above(X, 1.1) -> ValueError: pairs_above(): threshold must be in [-1, 1], as cosines are, not 1.1
topk(X, "some text", 1) -> FileNotFoundError: [Errno 2] topk(): corpus names no file: pass an array, or the path of a
    file that exists: 'some text'
pairs_above(X, Y, 0.5) -> TypeError: pairs_above(): threshold must be a number, not ndarray: it is the second argument,
    pairs_above(rows, threshold, ...)
pairs_above(X, "0.5") -> TypeError: pairs_above(): threshold must be a number, not str
pairs_above(X, 0.5, max_pairs=2) -> ValueError: pairs_above(): more than max_pairs=2 pairs reach 0.5, 15 in all: raise
    max_pairs or the threshold
pairs_above(X, 0.5, max_pairs=-1) -> ValueError: pairs_above(): max_pairs must be at least 0, not -1
pairs_above(X, 0.5, max_pairs=1.5) -> TypeError: pairs_above(): max_pairs must be an integer or None, not float
topk(X, Y, 1).to_list([]) -> ValueError: TopK.to_list(): ids has 0 elements, but row 0 was found: pass one for each row
pairs_above(X, 0).to_csr(5) -> ValueError: Pairs.to_csr(): shape must be (rows, columns), not 5
topk(X, Y, 1).to_list(ids="id") -> TypeError: TopK.to_list(): ids must be a list, an array, a Series or a dict of ids,
    not str: pass frame['id'] or rows.ids
pairs_above(X, 0).to_csr((9, 5)) -> ValueError: Pairs.to_csr(): number 5 does not fit into axis 1 of shape (9, 5): pass
    a larger shape
(hide("pandas"), pairs_above(X, 0).to_pandas()) -> ModuleNotFoundError: Pairs.to_pandas needs pandas: pip install pandas
diverse(X[0], Y, 1, 2) -> ValueError: diverse(): weight must be from 0 to 1, not 2.0: 1 gives the rows of topk
top_pairs(X, Y, 1) -> TypeError: top_pairs(): m must be an integer, not ndarray: it is the second argument, top_pairs(x,
    m) or top_pairs(x, m, y)
top_pairs(X, 0.9) -> TypeError: top_pairs(): m must be an integer, not float: it is a number of results; pairs_above
    gives all pairs that reach a threshold such as 0.9
maxsim(X, Index(Y)) -> TypeError: maxsim(): documents must be a list of arrays of shape (tokens, D), not Index: pass
    list(documents.values()) for a dict; if one array, one file or an Index holds all rows, pass offsets= too
maxsim(X, Y) -> ValueError: maxsim(): document 0 is one vector, and a document has shape (tokens, D): pass [x] for one
    document x, or the offsets of documents that are in one array (documents[0]: shape (4,), dtype float64)
maxsim(X, [[]]) -> ValueError: maxsim(): document 0 must have shape (tokens, D) and at least one row: leave it out, or
    pass the offsets of documents that are in one array (documents[0]: shape (0,), dtype float64)
maxsim(X, [Y, Y[:0]]) -> ValueError: maxsim(): document 1 must have shape (tokens, D) and at least one row: leave it
    out, or pass the offsets of documents that are in one array (documents[1]: shape (0, 4), dtype float64)
maxsim(X, Y, [0, 4]) -> ValueError: maxsim(): offsets must be integers that ascend from 0 to the number of rows of
    documents, so that each document has a row: np.cumsum([0, *lengths]) makes them from lengths (documents: shape (5,
    4), dtype float64; offsets: shape (2,), dtype int64)
neighbors().fit(pytest.importorskip("scipy.sparse").csr_array(X)).index_ -> AttributeError: CosineNeighbors was fitted
    with sparse rows, so it has no Index: call its own methods
neighbors().fit(X).radius_neighbors(X, 3) -> ValueError: CosineNeighbors(): radius must be in [0, 2], as cosine
    distances are, not 3
neighbors().fit(X).kneighbors_graph(mode="cosine") -> ValueError: kneighbors_graph(): mode must be one of ('distance',
    'similarity', 'connectivity'), not 'cosine'
topk(X, Y, 1, progress=True) -> ModuleNotFoundError: topk(): progress=True draws a bar with tqdm: pip install
    'cossim-c[progress]'
topk(DX, DX, 2, progress=True) -> TypeError: topk(): progress must be left out for Dask arrays, whose results are
    lazy: use dask.diagnostics.ProgressBar or the dashboard
pairwise(DX, out=np.ones((6, 6))) -> TypeError: pairwise(): out must be left out for Dask arrays, whose results are
    lazy: use dask.array.store
topk(X, DX[DX[:,0]>0]) -> ValueError: topk(): corpus has chunks of unknown size: call corpus.compute_chunk_sizes() first
vecdot(DX[DX[:, 0] > 0], DX[DX[:, 0] > 1]).compute() -> ValueError: vecdot(): chunks of unknown size must be equal, but
    have 0 and 2 elements: call compute_chunk_sizes() on both arrays, and rechunk() one of them
pairwise(dask.delayed(len)(1)) -> TypeError: pairwise(): x must be a dask.array.Array, not Delayed
# ---- sparse rows ----
pairwise(csr(indptr=[0, 2, 1, 3])) -> ValueError: pairwise(): x.indptr must rise from 0 to at most 3, the number of
    entries, but does not at position 2: build the matrix again
topk(X, csr(indices=[0, 1, 4]), 1) -> ValueError: topk(): row 2 of corpus has an entry outside of columns 0 to 3: build
    the matrix again
pairwise(csr(indptr=[0, 3])) -> ValueError: pairwise(): x is not CSR: with a shape of (3, 4), its data and indices must
    have one dimension and the same length, and its indptr 4 elements
pairwise(csr(indices=[0.0, 1.0, 2.0])) -> TypeError: pairwise(): x.indices must hold integers, at most 64 bits wide:
    convert it with astype (x.indices: shape (3,), dtype float64)
pairwise(csr(shape=(4,))) -> ValueError: pairwise(): x must have 2 dimensions: rows are vectors, shape (N, D), not (4,):
    pass one sparse vector as x.reshape(1, -1)
pairwise(csr(), binary=True) -> TypeError: pairwise(): binary=True is for packed bits, and not for sparse rows: leave it
    out
Index(csr()) -> TypeError: Index(): corpus is sparse, and dense rows are needed: pass corpus.toarray() if it fits into
    memory, or use topk, pairs_above or duplicate_groups, which take sparse rows
cosine_similarity(csr(), csr(), 0) -> ValueError: cosine_similarity(): dim must be 1 for sparse rows, whose vectors are
    rows, not 0: pass dim=1, and for columns the transpose, .T
normalize(csr(), dim=0, axis=1) -> TypeError: normalize() got both dim and axis, which are two names of one argument:
    pass one of them
vecdot(csr(), csr()) -> TypeError: vecdot() does not take sparse rows: use x1.multiply(x2).sum(axis=1)
vector_norm(csr(), 1, out=np.ones(4)) -> ValueError: vector_norm(): out must be an array of shape (3,)
normalize(csr(), out=np.ones((3, 4))) -> TypeError: normalize(): out cannot be used with sparse rows: the result is a
    new sparse matrix
# ---- index files ----
Index.load("other.index") -> ValueError: Index.load(): the arrays in other.index are not those of an index: load a file
    that Index.save wrote
Index.load("flat.npy") -> ValueError: 'flat.npy': not an index file of cossim but a .npy file: load a file that
    Index.save wrote
Index.load("X.npz") -> ValueError: 'X.npz': not an index file of cossim but a .npz or other .zip file: load a file that
    Index.save wrote
Index.load("empty.npy") -> ValueError: 'empty.npy': not an index file of cossim but an empty one: load a file that
    Index.save wrote
Index.load("text.npy") -> ValueError: 'text.npy': not an index file of cossim, by its first bytes: load a file that
    Index.save wrote
index_file.write("new", {}, {"x": np.broadcast_to(np.uint8(0), 2**41)}) -> ValueError: 'new': the header would have
    1048768 bytes, and at most 1048576 are allowed: save fewer rows
refused(header(), BODY[1:]) -> ValueError: 'forged': cut off: 255 bytes of 256: copy the file again
refused(header(), BODY + b"1") -> ValueError: 'forged': 1 bytes too long: 257 bytes, not 256: copy the file again
refused(header(), bytes(64)) -> ValueError: 'forged': damaged: bytes 192 to 255 do not match their checksum: copy the
    file again, or save the index again
refused(header().replace("F32", "F33")) -> ValueError: 'forged': damaged: no index has such a header: save the index
    again
refused(header(version="3")) -> ValueError: 'forged': its format has version 3, but this cossim reads versions 1 and 2:
    update cossim
refused(header("BOOL", (64,))) -> ValueError: 'forged': damaged: bytes of the bool array 'x' are neither 0 nor 1: save
    the index again
(monkeypatch.setattr(index_file, "_check_size", lambda *sizes: None), refused(header(), b"")) -> ValueError: 'forged':
    cut off while it was read: copy the file again
(hide("ml_dtypes"), index_file.read("bfloat16.index")) -> ImportError: 'bfloat16.index' holds bfloat16, which needs
    ml_dtypes: pip install ml_dtypes
# ---- files of images ----
image_files.read_images("short.npy") -> ValueError: short.npy: truncated: the sizes of 3 dimensions take 12 bytes, found
    2: copy the file again
image_files.read_images("text.npy") -> ValueError: text.npy: neither an idx nor a .npy file, because it begins with 31
    20 32 20: save the images with numpy.save
image_files.read_images("flat.npy") -> ValueError: flat.npy: images must have shape (N, 28, 28), (N, 1, 28, 28) or (N,
    784), not (5,)
image_files.read_images("idx13.npy") -> ValueError: idx13.npy: idx elements of type 0x0d, but images have unsigned
    bytes, 0x08: save the images with numpy.save
image_files.read_images("long.npy") -> ValueError: long.npy: too long: shape (1, 28, 28) takes 784 bytes after the
    header, found more: copy the file again
image_files.read_images("complex.npy") -> ValueError: complex.npy: images must be real numbers, not complex128
image_files.read_images("nan.npy") -> ValueError: nan.npy: 784 numbers are NaN or infinite in float32: replace them
    first
# ---- files of rows ----
open_rows("image.png") -> ValueError: image.png: no known format: rename the file to one of the suffixes .npy .npz
    .safetensors .fvecs .bvecs .ivecs .fbin .ibin .u8bin .i8bin .txt .vec .w2v .glove .bin .parquet .csv .tsv .jsonl
    .ndjson .h5 .hdf5, pass dtype= and shape= of raw elements, or open a saved index with Index.load
open_rows(3) -> TypeError: open_rows(): path_or_paths must be a path or a list of paths, at least one, not 3: pass
    arrays to the functions themselves
open_rows([]) -> TypeError: open_rows(): path_or_paths must be a path or a list of paths, at least one, not []: pass
    arrays to the functions themselves
open_rows("rows.json") -> ValueError: rows.json: no known format, JSON without a row in each line: convert it, such as
    pandas.read_json('rows.json').to_parquet('rows.parquet')
open_rows("rows.pkl") -> ValueError: rows.pkl: no known format, a pickle, which is never loaded: load it yourself, and
    numpy.save('rows.npy', vectors)
open_rows("nothing*.npy") -> FileNotFoundError: nothing*.npy: there is no file: change the folder or the pattern
open_rows("mixed") -> ValueError: mixed: the files in this folder have the suffixes .fbin, .npy: pass a pattern such as
    'mixed/*.fbin', or a list
open_rows("X.npy", shape=4) -> ValueError: X.npy: shape= and offset= are for raw elements, and .npy files have their
    own: leave them out
open_rows("image.png", shape=4) -> ValueError: image.png: raw elements have no header: pass both dtype= and shape=, such
    as shape=(-1, 128)
open_rows("image.png", dtype="f4", shape=0) -> ValueError: image.png: shape=(0,) must be D, (-1, D) or (N, D), and
    offset=0 must lie in the file: change them
open_rows("image.png", dtype="f4", shape=(9, 4)) -> ValueError: image.png: shape (9, 4) takes 144 bytes in all, found 4:
    copy the file again, or change dtype and shape
open_rows("X.npy", dtype="f4") -> ValueError: X.npy: .npy files have a dtype of their own: leave dtype= out, and convert
    slices with astype
open_rows("X.npy", "x") -> ValueError: X.npy: rows in this format have no name: leave 'x' out
open_rows("words.txt", dtype=int) -> ValueError: words.txt: numbers of text become floats of at most 64 bits, not int64:
    pass dtype=float or leave it out
open_rows("X.npy", ids="id") -> ValueError: X.npy: it has no column of ids 'id': that of word2vec and GloVe is called
    'word', and arrays have none
open_rows("weights.npz") -> ValueError: weights.npz: it has no rows of vectors: save real numbers of shape (N, D), or a
    column of lists of equal lengths
open_rows("ragged.fvecs") -> ValueError: ragged.fvecs: row 1 has 1 elements, and row 0 has 2: all must have the same
    number
open_rows("cut.fvecs") -> ValueError: cut.fvecs: rows of 2 elements, as its first bytes say, do not fill 5 bytes: copy
    the file again
open_rows("cut.fbin") -> ValueError: cut.fbin: shape (3, 2) takes 32 bytes in all, found 16: copy the file again, or
    change dtype and shape
open_rows("cut.safetensors") -> ValueError: cut.safetensors: the header does not fit the file, which is cut short or
    damaged: copy it again
open_rows("bool.safetensors") -> ValueError: bool.safetensors: an array of bool holds bytes other than 0 and 1: save it
    again
open_rows("cube.safetensors", "x") -> ValueError: cube.safetensors: an array of shape (1, 1, 2), where rows of vectors,
    shape (N, D), are needed: reshape it
open_rows("array.npz") -> ValueError: array.npz: damaged, or of another format than its suffix says: File is not a zip
    file
open_rows("two.npz", "z") -> ValueError: two.npz: it has nothing named 'z': choose one of 'a', 'b'
open_rows("cut.fvecs.gz") -> ValueError: cut.fvecs.gz: .fvecs files need random access: unpack it first, as gunzip does,
    and read it from a file
open_rows("words.txt")[1:] -> ValueError: words.txt: row 1 does not have 2 numbers: '4 x': correct the line or leave it
    out
open_rows("short.txt") -> ValueError: short.txt: the header says 3 rows, found 1: copy the file again
open_rows("wordless.txt") -> ValueError: wordless.txt: no row ends with numbers: check that each line is a word and D
    numbers, or numbers alone
open_rows("cut.txt.gz") -> ValueError: cut.txt.gz: the gzip file is cut short: copy it again
open_rows("text.bin") -> ValueError: text.bin: not word2vec's binary format, which begins with a line of N and D: for
    raw elements pass dtype= and shape=
open_rows("word.bin") -> ValueError: word.bin: a word has more than 65536 bytes: check that this is word2vec's binary
    format
open_rows("X.npy")[6] -> IndexError: row 6 is out of range for 6 rows: use -N to N - 1
(rows := open_rows("X.npy"), rows.close(), rows[0]) -> ValueError: X.npy: the rows are closed: open them again with
    cossim.open_rows
open_rows("X.npy").__array__(np.float32, copy=False) -> ValueError: X.npy: its rows are not in memory with this dtype:
    leave copy=False out
open_rows(["X.npy", "narrow.npy"]) -> ValueError: X.npy: rows of narrow.npy have shape (2, 3) and dtype float64, those
    of X.npy (6, 4) and float64: choose files of one kind
open_rows("flat.npy") -> ValueError: flat.npy: an array of shape (5,), where rows of vectors, shape (N, D), are needed:
    save one vector as x[None]
open_rows("bsr.npz") -> ValueError: bsr.npz: sparse rows in the format bsr: save them as CSR,
    scipy.sparse.save_npz(path, matrix.tocsr())
open_rows("short_indptr.npz") -> ValueError: short_indptr.npz: the arrays of its sparse rows do not fit together: save
    the matrix again with save_npz
open_rows(["X.npz", "sparse.npz"]) -> ValueError: X.npz: sparse.npz and X.npz are not of one kind, sparse or dense: open
    them one by one
cossim.Index("sparse.npz") -> TypeError: Index(): corpus is sparse, and dense rows are needed: pass corpus.toarray() if
    it fits into memory, or use topk, pairs_above or duplicate_groups, which take sparse rows
open_rows("two.npz") -> ValueError: two.npz: it has 2 arrays or columns of vectors, so a name is needed, one of: 'a',
    'b'
# ---- the command line ----
cossim topk X.npy zip.npy -k 1 -> 1: cossim: zip.npy: an archive such as .npz, where a single array, .npy, is needed:
    save one array of it with numpy.save
cossim topk X.npy bfloat16.npy -k 1 -o hits.npz -> 1: cossim: bfloat16.npy: NumPy saves bfloat16 as |V2, without its
    name: pass dtype=ml_dtypes.bfloat16 to open_rows, or save as float32
cossim topk X.npy -k 1 -o hits -> 2: cossim topk: error: argument -o/--output: 'hits' does not end in .npz or .csv or
    .tsv or .jsonl or .parquet or .safetensors
cossim topk X.npy -k 1 -o h.parquet -> 1: cossim: h.parquet: this format needs pyarrow: pip install 'cossim-c[files]'
cossim topk X.npy -k1 --ids good.txt -> 1: cossim: good.txt: write 6 lines, a name for each row of X.npy, not 2
cossim topk good.txt -k 1 --ids word -o hits.safetensors -> 1: cossim: hits.safetensors: .safetensors holds only
    numbers: leave --ids out, or write .npz
cossim dedupe sparse.npz -t 0.9 -> 1: cossim: sparse.npz: sparse rows, where dense ones are needed: save
    matrix.toarray() with numpy.save if it fits into memory, or use topk or pairs, which take sparse rows
(monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"PAR1"))), row_files.open_input("-")) ->
    ValueError: standard input: a .parquet file, where .npy or text is needed: pass the path of the file
cossim topk - - -k 1 -> 2: cossim topk: error: argument CORPUS: standard input can be read once: name a file
cossim topk X.npy gzip.npy -k 1 -> 1: cossim: gzip.npy: a gzip file, where a .npy file is needed: unpack it first, as
    gunzip does
cossim topk X.npy -k 1 -o no/hits.npz -> 1: cossim: no/hits.npz: no file can be written there: the folder does not
    exist: create it first
(monkeypatch.setattr(sys, "stdout", None), result_files.print_csv(None)) -> OSError: standard output: it is closed:
    write to a file with -o
(hide("sklearn"), demo_command.run()) -> ModuleNotFoundError: without --images FILE, the demo takes its images from
    scikit-learn: pip install 'cossim-c[demo]'
(hide("matplotlib"), demo_command.run("none.npy")) -> ModuleNotFoundError: without --no-plot, the demo draws a heatmap
    with matplotlib: pip install 'cossim-c[demo]'
cossim demo --images none.npy --no-plot -> 1: cossim: none.npy: it has no images: choose another file
cossim topk X.npy text.npy -k 1 -> 1: cossim: text.npy: not a .npy file, because it begins with 31 20 32 20 33 0a: save
    the array with numpy.save
cossim topk X.npy empty.npy -k 1 -> 1: cossim: empty.npy: not a .npy file, because it begins with nothing: save the
    array with numpy.save
cossim topk X.npy complex.npy -k 1 -> 1: cossim: complex.npy: the elements must be real numbers of at most 64 bits, not
    complex128: save them as float32 or float64
cossim topk X.npy --binary -k 1 -> 1: cossim: X.npy: packed bits must be uint8, not float64: pack the signs of numbers
    with numpy.packbits(rows > 0, axis=1)
cossim topk X.npy P.npy -k 1 -> 1: cossim: P.npy: an array of shape (4, 1, 28, 28), where rows of vectors, shape (N, D),
    are needed: reshape it
cossim topk X.npy cut.npy -k 1 -> 1: cossim: cut.npy: truncated: shape (2, 4) takes 64 bytes after the header, found 63:
    copy the file again
cossim topk X.npy version.npy -k 1 -> 1: cossim: version.npy: a .npy file of an unknown version, or a damaged one: save
    the array with numpy.save
cossim topk X.npy negative.npy -k 1 -> 1: cossim: negative.npy: the header is damaged, no array has the shape (-2, 4):
    copy the file or save the array again
cossim topk X.npy huge.npy -k 1 -> 1: cossim: huge.npy: the header is damaged, no array has the shape (0,
    99999999999999999999): copy the file or save the array again
cossim topk X.npy nested.npy -k 1 -> 1: cossim: nested.npy: the header is damaged: copy the file or save the array again
cossim topk X.npy narrow.npy -k 1 -> 1: cossim: rows of X.npy have 4 elements, rows of narrow.npy 3: choose files of one
    model
cossim topk X.npy -k 9223372036854775808 -> 2: cossim topk: error: argument -k: 9223372036854775808 does not fit 64 bits
cossim topk X.npy -k 1 --column a --column b -> 2: cossim topk: error: argument --column: more names than files
cossim topk X.npy -k 1 --threads 0 -> 2: cossim topk: error: argument --threads: 0 is not at least 1
cossim topk X.npy --memory 1X -> 2: cossim topk: error: argument --memory: '1X' is not an amount of memory, such as
    256M, 1.5G or a number of bytes
cossim topk X.npy --memory 0 -> 2: cossim topk: error: argument --memory: '0' is not from 1 to 9223372036854775807 bytes
cossim topk X.npy -k 1 -o folder.npz -> 1: cossim: folder.npz: no file can be written there: not a regular file: choose
    another path
cossim topk X.npy -k1 --exclude X.npy -> 1: cossim: X.npy: an array of float64: --exclude takes row numbers: write some
    first, such as echo 0 2 > new-rows.txt
cossim topk X.npy -k1 --where 1,2 -> 1: cossim: argument --where takes a file, not row numbers: write one first, such as
    echo 1 2 > new-rows.txt
cossim topk X.npy -k 1 --where rows.txt -> 1: cossim: rows.txt: 'x' is not a row number: write whole numbers, or save a
    mask as .npy
cossim topk X.npy -k 1 --where lang -> 1: cossim: lang: there is no such file: --where takes a file of row numbers
cossim topk X.npy -k 1 --ids no/names.txt -> 1: cossim: no/names.txt: there is no such file: --ids takes a file with the
    name of one row in each line
cossim index search X.index -k 1 --max-pairs 3 -> 2: cossim index search: error: argument --max-pairs: not allowed
    without -t/--threshold; X.index: No such file or directory
cossim pairs X.npy X.npy --threshold 1 --groups -> 2: cossim pairs: error: argument --groups: not allowed with OTHER,
    --max-pairs, --where or --exclude
cossim train P.npy -o weights.pt -> 2: cossim train: error: argument -o/--output: 'weights.pt' does not end in .npz or
    .safetensors
cossim train P.npy -o w.npz --checkpoint ./w.npz -> 2: cossim train: error: argument --checkpoint: -o/--output names the
    same file: choose another
"""
