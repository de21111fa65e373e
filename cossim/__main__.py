"""The command line: python -m cossim, or cossim."""

import argparse
import os
import sys
from functools import cache, partial

import cossim
from cossim import _interrupts
from cossim.cli import EXAMPLES, WHAT_FOR, index_commands, search_commands, suggestions, training_commands


def _demo(arguments):
    from cossim.cli import demo_command

    demo_command.run(arguments.images, arguments.output, arguments.seed, not arguments.no_plot)


def _read_demo_images(arguments):
    from cossim.cli import demo_command

    if arguments.images is not None:
        demo_command.read_images(arguments.images)


def _add_demo(commands):
    text = "From a pair of vectors to the similarity matrix of real images, step by step, with a heatmap."
    parser = commands.add_parser("demo", help=text, description=text)
    source = "MNIST idx file or .npy of N images of 28 x 28, gzipped or not (default: scikit-learn's digits)"
    images = parser.add_argument("--images", metavar="FILE", help=source)
    seed = "seed of all random numbers (default: %(default)s)"
    parser.add_argument("--seed", metavar="N", type=search_commands.not_negative, default=0, help=seed)
    target = "PNG file for the heatmap (default: %(default)s)"
    output = parser.add_argument("--output", metavar="FILE", default="cossim-demo.png", help=target)
    parser.add_argument("--no-plot", action="store_true", help="do not draw the heatmap")
    search_commands.set_run(parser, _demo, reads=[images], writes=[output], prepare=_read_demo_images)


def _add_info(commands):
    text = "Shows version, instruction sets and threads."
    parser = commands.add_parser("info", help=text, description=text)
    parser.set_defaults(run=lambda arguments: cossim.show_config())


# Each entry adds one command: its arguments and the function that runs it. Add a new command here.
COMMANDS = (
    _add_demo,
    search_commands.add_topk,
    search_commands.add_pairs,
    index_commands.add_dedupe,
    index_commands.add_index,
    training_commands.add_train,
    training_commands.add_embed,
    _add_info,
)


ERRORS = (IndexError, MemoryError, ModuleNotFoundError, OSError, ValueError)


def _one_line(error):
    return " ".join((str(error) or "out of memory").splitlines())


def main(argv=None):
    """Runs a command and returns the exit code: 0, 1 after an error, or 130 after Ctrl-C.

    An error prints one line on stderr, which ends with the command that would work. If the program that reads stdout
    has ended, nothing is printed. Invalid arguments raise SystemExit(2), as argparse does. Without arguments, examples
    are printed.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        with _interrupts.raising_keyboard_interrupt():
            arguments = _parser(argv).parse_args(argv or ["examples"])
            arguments.check(arguments)
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(errors="backslashreplace")  # for file names that the terminal cannot encode
            arguments.run(arguments)
            if sys.stdout is not None:  # None if it was closed before Python started
                sys.stdout.flush()
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return _interrupts.EXIT_CODE
    except ERRORS as error:
        message = _one_line(error)
        print(f"cossim: {message}{suggestions.ending(argv, message, _problem)}", file=sys.stderr)
        return 1
    finally:
        _flush_or_discard_stdout()
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser of a command line, which is a list of words. Its errors end with the command that would work."""

    def __init__(self, words, **options):
        super().__init__(**options)
        self.words = words

    def add_subparsers(self, **options):
        options["parser_class"] = partial(type(self), self.words)
        return super().add_subparsers(**options)

    def error(self, message):
        super().error(message + suggestions.ending(self.words, message, _problem))


class _QuietParser(_Parser):
    """A parser whose errors are exceptions."""

    def error(self, message):
        raise ValueError(message)


@cache
def _quiet_parser():
    return _parser(["COMMAND"], _QuietParser)


def _problem(words, with_files=False):
    """Returns the parser's message about a command line, or that about the files, or "" if there is none."""
    try:
        arguments = _quiet_parser().parse_args(words)
        arguments.check(arguments)
        if with_files and arguments.prepare is not None:
            arguments.prepare(arguments)
    except ERRORS as error:
        return _one_line(error)
    except (Exception, SystemExit):  # --help, or a fault of cossim, which the command itself will show
        pass
    return ""


def _show_examples(arguments):
    width = max(len(example) for example in EXAMPLES.values())
    print("Cosine similarity for NumPy. Examples:\n")
    for name, example in list(EXAMPLES.items())[:5]:
        print(f"    {example:{width}}  # {WHAT_FOR[name]}")
    print("\ncossim --help lists all commands, and cossim COMMAND --help the options of one.")


def _parser(words, kind=_Parser):
    text = "Cosine similarity for NumPy."
    parser = kind(words, prog="cossim", description=text, epilog=search_commands.EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"cossim {cossim.__version__}")
    parser.set_defaults(check=lambda arguments: None, prepare=None)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    if not words:
        commands.add_parser("examples").set_defaults(run=_show_examples)
    return parser


def _flush_or_discard_stdout():
    """Flushes stdout, and discards the rest if that fails.

    The program that reads stdout, such as head, may have ended, or the disk may be full. Python would flush again at
    exit and print an error.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
