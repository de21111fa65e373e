"""Rows of vectors in files: cossim.open_rows, and one reader for each format."""
