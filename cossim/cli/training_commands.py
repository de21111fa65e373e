"""The SimCLR commands: train an encoder on the images of a file, and embed images with it."""

import numpy as np

from cossim._io import ending_by_exception, errors_as_text, replacing, write_errors_as_text
from cossim._progress import reporting
from cossim.cli.result_files import check_path
from cossim.cli.search_commands import EXIT_CODES, add_running, integer, limited, set_run, wants_bar, with_suffix

BATCH = 1024  # images embedded at a time
IMAGES = "MNIST idx file or .npy of N images of 28 x 28, gzipped or not"

# ---- arguments ----


# the numbers of train: name, metavar, type, default, text
NUMBERS = (
    ("--epochs", "N", integer, 60, "passes over the images"),
    ("--batch-size", "N", integer, 128, "images per step"),
    ("--temperature", "T", float, 0.2, "temperature of the loss"),
    ("--seed", "N", integer, 0, "seed of all random numbers"),
    ("--lr", "X", float, 2e-3, "learning rate of Adam"),
)
_weights_path, _npy_path = with_suffix(".npz", ".safetensors"), with_suffix(".npy")


def add_train(commands):
    text = "Trains SimCLR's encoder on images, without labels."
    more = "Each step makes two views of each image, and learns which views belong together."
    parser = commands.add_parser("train", help=text, description=f"{text} {more}", epilog=EXIT_CODES)
    images = parser.add_argument("images", metavar="IMAGES", help=IMAGES)
    target = "where the weights go, .npz or .safetensors"
    output = parser.add_argument("-o", "--output", metavar="FILE", type=_weights_path, required=True, help=target)
    for name, metavar, kind, default, text in NUMBERS:
        parser.add_argument(name, metavar=metavar, type=kind, default=default, help=f"{text} (default: %(default)s)")
    checkpoint = "file saved after each epoch and on Ctrl-C, .npz or .safetensors; if it exists, training resumes there"
    checkpoint = parser.add_argument("--checkpoint", metavar="FILE", type=_weights_path, help=checkpoint)
    add_running(parser)
    set_run(parser, _train, reads=[images], writes=[output, checkpoint], prepare=_prepare_train)


def add_embed(commands):
    text = "Embeddings of images by a trained encoder, as rows for topk and pairs."
    parser = commands.add_parser("embed", help=text, description=text, epilog=EXIT_CODES)
    images = parser.add_argument("images", metavar="IMAGES", help=IMAGES)
    weights = "weights that train wrote, or weights of the same network from torch"
    weights = parser.add_argument("--weights", metavar="FILE", type=_weights_path, required=True, help=weights)
    target = "where the embeddings go, a .npy of shape (N, 100)"
    output = parser.add_argument("-o", "--output", metavar="FILE", type=_npy_path, required=True, help=target)
    add_running(parser)
    set_run(parser, _embed, reads=[images, weights], writes=[output], prepare=_prepare_embed)


# ---- running a command ----


def _prepare_train(arguments):
    from cossim.cli.image_files import read_images
    from cossim.nn.weights import check_weights_path

    with errors_as_text():
        images = read_images(arguments.images)
    for path in (arguments.output, arguments.checkpoint):
        if path is not None:
            with write_errors_as_text(path):
                check_weights_path(path)
    return images


def _train(arguments):
    from cossim import nn, simclr

    images = arguments.prepare(arguments)
    options = ("epochs", "batch_size", "temperature", "seed", "lr", "checkpoint")
    options = {name: getattr(arguments, name) for name in options}
    with errors_as_text(), limited(arguments), ending_by_exception():
        encoder = simclr.train(images, progress=wants_bar(arguments), **options).encoder
    with write_errors_as_text(arguments.output):
        nn.save_weights(arguments.output, encoder.state_dict())


def _prepare_embed(arguments):
    from cossim import simclr
    from cossim.cli.image_files import read_images

    encoder = simclr.Encoder()
    with errors_as_text():
        encoder.load_state_dict(arguments.weights)
        images = read_images(arguments.images)
    check_path(arguments.output)
    return encoder, images


def _embed(arguments):
    encoder, images = arguments.prepare(arguments)
    embeddings = np.empty((len(images), encoder.fc.out_features), np.float32)
    with limited(arguments), reporting(wants_bar(arguments), "embed", "images") as report:
        for start in range(0, len(images), BATCH):
            if report is not None:
                report(start, len(images))
            embeddings[start : start + BATCH] = encoder(images[start : start + BATCH])
    with write_errors_as_text(arguments.output), replacing(arguments.output) as (file, replace):
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(embeddings))
        file.write(embeddings)  # np.lib.format.write_array would not say that the disk is full
        replace()
