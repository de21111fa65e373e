"""The command line: python -m cossim, or cossim."""

import argparse
import os
import sys

import cossim


def _demo(arguments):
    from cossim import _demo

    _demo.run(arguments.images, arguments.output, arguments.seed, not arguments.no_plot)


def _add_demo(commands):
    text = "From a pair of vectors to the similarity matrix of real images, step by step, with a heatmap."
    parser = commands.add_parser("demo", help=text, description=text)
    source = "MNIST idx file or .npy of N images of 28 x 28, either also gzipped (default: scikit-learn's digits)"
    parser.add_argument("--images", metavar="FILE", help=source)
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of all that is random (default: %(default)s)")
    target = "where the heatmap goes, a PNG (default: %(default)s)"
    parser.add_argument("--output", metavar="FILE", default="cossim-demo.png", help=target)
    parser.add_argument("--no-plot", action="store_true", help="do not draw the heatmap")
    parser.set_defaults(run=_demo)


def _add_info(commands):
    text = "Version, instruction sets and threads."
    parser = commands.add_parser("info", help=text, description=text)
    parser.set_defaults(run=lambda arguments: cossim.show_config())


# Each adds its own arguments and the function that runs it. A new command is one more of them.
COMMANDS = (_add_demo, _add_info)


def main(argv=None):
    """Runs a command. Returns the exit code: 0, or 1 with a message on stderr; unusable arguments exit with 2."""
    parser = argparse.ArgumentParser(prog="cossim", description="Cosine similarity for NumPy.")
    parser.add_argument("--version", action="version", version=f"cossim {cossim.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    arguments = parser.parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names that the terminal's encoding lacks
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as head, has gone. What Python still holds for it must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (ModuleNotFoundError, OSError, ValueError) as error:
        print(f"cossim: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
