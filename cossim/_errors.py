"""The text of every error message that cossim's Python code raises, by subject. csrc/python/messages.h has those of C.

A message is a template. The place that finds a mistake fills it in and names the type of the error:

    raise ValueError(_errors.K_OUT_OF_RANGE.format(function=function, candidates=5, k=k))

A message says what is wrong, by the names and numbers of the caller, and then what to do next. In a template

    {function}  is the public function that was called, without brackets
    {name}      is an argument of that function
    {path}      is a file, {error} the text of an exception below
    {arrays}    is described(...) of the arrays that do not fit, the last part of a message

tests/robustness/test_messages.py has an example of every template.
"""


def described(**arrays):
    """The arrays of a message: "(x: shape (2, 3), dtype float32; y: shape (3,), dtype int64)". Leaves out None."""
    parts = (f"{name}: shape {a.shape}, dtype {a.dtype}" for name, a in arrays.items() if a is not None)
    return f"({'; '.join(parts)})"


# ---- arguments of every subject ----

NOT_AN_INTEGER = "{function}(): {name} must be {wanted}, not {kind}"

# ---- vectors ----

# ---- search ----

K_OUT_OF_RANGE = "{function}(): k must be from 1 to {candidates}, the number of candidates, not {k}"

# ---- search: Dask arrays ----

# ---- search: index files ----

# ---- files ----

# ---- nn: layers ----

# ---- nn: weights ----

# ---- nn: optimizers ----

# ---- simclr ----

# ---- command line ----
