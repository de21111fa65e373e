"""python -m benchmarks.simclr_accuracy IMAGES LABELS: measures the gain of training without labels, on MNIST.

A random fifth of the images is held out; the encoder trains on the others, without their labels. A held-out image
gets the most frequent label of its 5 nearest neighbours by cosine similarity; if labels are equally frequent, the more
similar neighbours win. Prints the accuracy of raw pixels, of the untrained and of the trained encoder, for three seeds.
Each seed splits the images differently. All settings are simclr.train's defaults. IMAGES and LABELS are MNIST's test
files.
"""

import argparse
import gzip
from time import perf_counter, process_time

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


def measure(images, labels, seed):
    """Prints and returns the accuracies (pixels, untrained, trained) of one seed, which also splits the images."""
    order = np.random.default_rng(seed).permutation(len(images))
    trained_on, held_out = np.split(order, [len(order) * 4 // 5])

    def of(function):
        known, rows = function(images[trained_on]), function(images[held_out])
        return accuracy(known, labels[trained_on], rows, labels[held_out])

    start, start_cpu = perf_counter(), process_time()
    encoder = simclr.train(images[trained_on], seed=seed).encoder
    seconds, cpu = perf_counter() - start, process_time() - start_cpu
    found = of(lambda x: x.reshape(len(x), -1)), of(simclr.Encoder(rng=seed)), of(encoder)
    text = "raw pixels {:.2f}, untrained {:.2f}, trained {:.2f}".format(*found)
    print(f"seed {seed}: {text}, in {seconds:.0f} s, {cpu:.0f} s of CPU time", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simclr_accuracy", description=__doc__)
    parser.add_argument("images", metavar="IMAGES")
    parser.add_argument("labels", metavar="LABELS")
    parser.add_argument("--seeds", metavar="SEED", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    images, labels = image_files.read_images(arguments.images), read_labels(arguments.labels)
    print(f"{len(images) * 4 // 5} images to train on, the others held out; accuracy in percent")
    found = np.mean([measure(images, labels, seed) for seed in arguments.seeds], axis=0)
    print("mean: raw pixels {:.2f}, untrained {:.2f}, trained {:.2f}".format(*found))


if __name__ == "__main__":
    main()
