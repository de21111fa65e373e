"""python -m cossim: the command line."""

import argparse
import sys

import cossim


def _demo(arguments):
    from cossim import _demo

    _demo.run(arguments.images, arguments.output, arguments.seed, not arguments.no_plot)


def _add_demo(commands):
    parser = commands.add_parser("demo", help="from a pair of vectors to the similarity matrix of real images, step by step")
    parser.add_argument("--images", metavar="FILE", help="MNIST idx file (.gz too) or .npy; default: scikit-learn's digits")
    parser.add_argument("--output", metavar="FILE", default="cossim-demo.png", help="where the heatmap goes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default: %(default)s)")
    parser.add_argument("--no-plot", action="store_true", help="do not draw the heatmap")
    parser.set_defaults(run=_demo)


def _add_info(commands):
    parser = commands.add_parser("info", help="version, instruction sets and threads")
    parser.set_defaults(run=lambda arguments: cossim.show_config())


# Each command adds its own arguments and the function that runs it.
COMMANDS = (_add_demo, _add_info)


def main(argv=None):
    """Runs a command; returns the exit code: 0, or 1 with a message on stderr (2 for unusable arguments)."""
    parser = argparse.ArgumentParser(prog="cossim", description="Cosine similarity for NumPy.")
    parser.add_argument("--version", action="version", version=f"cossim {cossim.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except ModuleNotFoundError as error:
        print(f"cossim: {error.name} is missing: pip install 'cossim-c[demo]'", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"cossim: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
