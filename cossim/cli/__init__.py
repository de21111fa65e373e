"""The commands of the command line: one module per group of commands.

EXAMPLES has an example of each command. `cossim` alone prints the first five; errors about arguments end with one.
"""

EXAMPLES = {
    "topk": "cossim topk queries.npy corpus.npy -k 10",
    "pairs": "cossim pairs documents.parquet -t 0.95 --ids id",
    "dedupe": "cossim dedupe documents.parquet -t 0.95 --kept",
    "index": "cossim index build corpus.npy -o corpus.index",
    "train": "cossim train images.npy -o weights.npz",
    "embed": "cossim embed images.npy --weights weights.npz -o embeddings.npy",
    "demo": "cossim demo",
    "info": "cossim info",
}
WHAT_FOR = {
    "topk": "the 10 nearest rows of each query",
    "pairs": "near-duplicates, with their ids",
    "dedupe": "the rows to keep, without near-duplicates",
    "index": "a file that is prepared for many searches",
    "train": "an encoder of images, without labels",
    "embed": "its embeddings of images",
    "demo": "from two vectors to the similarities of real images",
    "info": "version, instruction sets and threads",
}
