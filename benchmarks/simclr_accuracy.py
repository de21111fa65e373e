"""python -m benchmarks.simclr_accuracy IMAGES LABELS: measures the gain of training without labels, on MNIST.

A random fifth of the images is held out; the encoder trains on the others, without their labels. A held-out image
gets the most frequent label of its 5 nearest neighbours by cosine similarity; if labels are equally frequent, the more
similar neighbours win. Prints the accuracy of raw pixels and, for three seeds, of the untrained and the trained
encoder. All settings are simclr.train's defaults. IMAGES and LABELS are MNIST's test files.
"""

import argparse
import gzip
from time import perf_counter

import numpy as np

import cossim
from cossim import simclr
from cossim.cli import image_files

NEIGHBOURS = 5


def read_labels(path):
    with open(path, "rb") as file:
        data = file.read()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    if data[:4] != b"\0\0\x08\x01":
        raise ValueError(f"{path}: no idx file of labels")
    return np.frombuffer(data[8:], np.uint8)


def accuracy(known, labels, rows, expected):
    values, indices = cossim.topk(rows, known, NEIGHBOURS)
    votes = np.zeros((len(rows), labels.max() + 1))
    np.add.at(votes, (np.arange(len(rows))[:, None], labels[indices]), 1 + values / 1000)
    return 100 * np.mean(votes.argmax(1) == expected)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simclr_accuracy", description=__doc__)
    parser.add_argument("images", metavar="IMAGES")
    parser.add_argument("labels", metavar="LABELS")
    arguments = parser.parse_args()
    images, labels = image_files.read_images(arguments.images), read_labels(arguments.labels)
    order = np.random.default_rng(0).permutation(len(images))
    trained_on, held_out = np.split(order, [len(order) * 4 // 5])
    split = (labels[trained_on], labels[held_out])

    def of(function):
        return accuracy(function(images[trained_on]), split[0], function(images[held_out]), split[1])

    print(f"{len(trained_on)} images to train on, {len(held_out)} held out; accuracy in percent")
    print(f"raw pixels {of(lambda x: x.reshape(len(x), -1)):.2f}")
    found = []
    for seed in range(3):
        start = perf_counter()
        encoder = simclr.train(images[trained_on], seed=seed).encoder
        seconds = perf_counter() - start
        found.append((of(simclr.Encoder(rng=seed)), of(encoder)))
        print(f"seed {seed}: untrained {found[-1][0]:.2f}, trained {found[-1][1]:.2f}, in {seconds:.0f} s", flush=True)
    untrained, trained = np.mean(found, axis=0)
    print(f"mean: untrained {untrained:.2f}, trained {trained:.2f}, {trained - untrained:.2f} points more")


if __name__ == "__main__":
    main()
