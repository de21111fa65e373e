"""Vectors of words: the text formats of word2vec, GloVe and fastText, and the binary format of word2vec.

A row of text is a word and D numbers. word2vec puts a line with N and D in front of all rows; GloVe does not. Rows of
numbers alone, as numpy.savetxt writes them, are read too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from cossim import _errors
from cossim.rows.reader import (
    IndexedReader,
    RowIndex,
    RowsError,
    Source,
    after_first_line,
    cut_lines,
    first_lines,
    strings,
)

SAMPLE = 20  # lines that decide whether rows begin with a word
LONGEST_WORD = 1 << 16  # bytes

# ---- text ----


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return b"_" not in field


def _numbers_at_end(line: bytes) -> int:
    """Returns how many fields at the end of a line are numbers."""
    fields = line.split()
    words = [place for place, field in enumerate(fields) if not _is_number(field)]
    return len(fields) - 1 - max(words, default=-1)


def _layout(lines: list[bytes]) -> tuple[int | None, int, bool]:
    """Returns (N from a header or None, D, whether rows begin with a word), from the first lines of a file."""
    header = re.fullmatch(rb"(\d{1,18})[ \t](\d{1,9})\s*", lines[0]) if len(lines) else None
    rows = lines[1:] if header else lines
    counts = [(_numbers_at_end(line), len(line.split())) for line in rows]
    if header:
        size, dim = int(header[1]), int(header[2])
        if not counts and not size:
            return 0, dim, False
        is_row = dim == 2 and all(count == (2, 2) for count in counts)  # all lines are two numbers
        fits = all(numbers >= dim for numbers, _ in counts) and any(n in (dim, dim + 1) for _, n in counts)
        if counts and fits and not is_row:
            return size, dim, any(fields > dim for _, fields in counts)
        counts.insert(0, (2, 2))  # a row of two numbers
    # Takes the most frequent count, because a word may be a number and a line may be damaged.
    frequency = Counter(numbers for numbers, _ in counts)
    dim = min(frequency, key=lambda numbers: (-frequency[numbers], numbers), default=0)
    if not dim:
        raise RowsError(_errors.ROWS_NO_NUMBERS)
    return None, dim, any(fields > dim for _, fields in counts)


class WordsReader(IndexedReader):
    """Lines of numbers. Each line begins with a word, or none does."""

    def __init__(self, source: Source) -> None:
        source.check(unnamed=True)
        self.stream = stream = source.open()
        self.dtype = source.text_dtype(np.float32)
        count, dim, self.has_words = _layout(first_lines(stream, SAMPLE))
        start = 0 if count is None else after_first_line(stream)
        self.index = RowIndex(stream, start, cut_lines, end=b"\n")
        if count is not None and count != len(self.index):
            raise RowsError(_errors.ROWS_COUNT.format(count=count, found=len(self.index)))
        self.shape = (len(self.index), dim)
        self.id_name = "word" if self.has_words else None

    def _parse(self, data: bytes, row: int) -> np.ndarray:
        lines = [line for line in data.split(b"\n") if line.strip(b"\r")]
        try:
            return self._numbers([line.split(None, 1)[1] for line in lines] if self.has_words else lines)
        except (ValueError, IndexError):
            pass
        # A word may contain spaces, or be empty: the numbers are the last D fields.
        for place, line in enumerate(lines):
            fields = line.split()
            is_row = len(fields) == self.shape[1] + (self.has_words and not line[:1].isspace())
            if not is_row and not (self.has_words and len(fields) > self.shape[1]):
                raise self._wrong(row + place, line)
            lines[place] = b" ".join(fields[-self.shape[1] :])
        try:
            return self._numbers(lines)
        except ValueError:
            wrong = next((n for n, line in enumerate(lines) if _numbers_at_end(line) != self.shape[1]), 0)
            raise self._wrong(row + wrong, lines[wrong]) from None

    def _wrong(self, row: int, line: bytes) -> RowsError:
        text = line[:40].decode("utf-8", "replace")
        return RowsError(_errors.ROWS_LINE.format(row=row, dim=self.shape[1], text=text))

    def _numbers(self, lines: list[bytes]) -> np.ndarray:
        with np.errstate(over="ignore"):
            numbers = np.loadtxt([line.decode("latin-1") for line in lines], self.dtype, comments=None, ndmin=2)
        if numbers.shape != (len(lines), self.shape[1]):
            raise ValueError
        return numbers

    def read_ids(self) -> np.ndarray | None:
        if not self.has_words:
            return None
        return strings([word for _, _, data in self.index.pieces(0, len(self.index)) for word in self._words(data)])

    def _words(self, data: bytes) -> Iterator[str]:
        for line in data.split(b"\n"):
            if line.strip(b"\r"):
                word = line.split(None, 1)[0]
                if len(line.split()) != self.shape[1] + 1:
                    fields = line.rsplit(None, self.shape[1])
                    word = fields[0].strip() if len(fields) > self.shape[1] else b""
                yield word.decode("utf-8", "replace")


# ---- word2vec's binary format ----


class BinaryWordsReader(IndexedReader):
    """A line with N and D, and then N rows: a word, a space, D little-endian floats and perhaps a line end."""

    dtype = np.dtype("<f4")
    id_name = "word"

    def __init__(self, source: Source) -> None:
        source.check(unnamed=True, own_dtype=True)
        self.stream = stream = source.open()
        header = re.fullmatch(rb"(\d{1,18})[ \t](\d{1,9})\s*\n", stream.readline(64))
        if header is None or not int(header[2]):
            raise RowsError(_errors.ROWS_WORD2VEC_HEADER)
        count, dim = int(header[1]), int(header[2])
        self.size = 4 * dim
        self.left = count
        self.index = RowIndex(stream, stream.tell(), self._cut, most=count)
        if len(self.index) != count:
            raise RowsError(_errors.ROWS_COUNT.format(count=count, found=len(self.index)))
        self.shape = (count, dim)

    def _cut(self, data: bytes) -> tuple[int, int]:
        count, end = 0, 0
        for _, vector in self._spans(data, self.left):
            count, end = count + 1, vector + self.size
        self.left -= count
        return count, end

    def _spans(self, data: bytes, most: int) -> Iterator[tuple[bytes, int]]:
        """Yields (word, position of its vector) of each complete row in data, at most `most` of them."""
        place = 0
        for _ in range(most):
            space = data.find(b" ", place, place + LONGEST_WORD)
            if space < 0 and len(data) > place + LONGEST_WORD:
                raise RowsError(_errors.ROWS_LONG_WORD.format(size=LONGEST_WORD))
            if space < 0 or space + 1 + self.size > len(data):
                return
            yield data[place:space].lstrip(b"\n"), space + 1
            place = space + 1 + self.size

    def _parse(self, data: bytes, row: int) -> np.ndarray:
        vectors = b"".join([data[place : place + self.size] for _, place in self._spans(data, len(data))])
        return np.frombuffer(vectors, self.dtype).reshape(-1, self.shape[1])

    def read_ids(self) -> np.ndarray:
        pieces = (self._spans(data, count) for _, count, data in self.index.pieces(0, len(self.index)))
        return strings([word.decode("utf-8", "replace") for spans in pieces for word, _ in spans])


FORMATS = {
    ".txt": WordsReader,
    ".vec": WordsReader,
    ".w2v": WordsReader,
    ".glove": WordsReader,
    ".bin": BinaryWordsReader,
}
