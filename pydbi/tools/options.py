"""What the commands share: options, and the target behind them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from pydbi.tools.messages import Messages, report
from pydbi.tuples import NamedTuple


class UsageError(Exception):
    """The command is wrong: an argument, a library or a function that does not exist."""


class CommandParser(argparse.ArgumentParser):
    """An argument parser that leaves the reporting of mistakes to the command.

    Args:
        command: the command's name.
        description, epilog: what --help tells before and after the options.
        usage: the first line, where argparse's own would not do.
    """

    def __init__(
        self, command: str, *, description: str, epilog: str = "", usage: str | None = None
    ) -> None:
        super().__init__(
            prog=f"pydbi {command}",
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message} (--help tells more)")

    def print_help(self, file: Any = None) -> None:
        """Print the help; that it cannot be written is not passed over, as argparse does."""
        print(self.format_help(), end="", file=file, flush=True)

    def report(self, error: UsageError) -> None:
        """Print what is wrong with the command."""
        report(self.prog.removeprefix("pydbi "), f"error: {error}")


def target_parser(command: str, *, description: str, epilog: str) -> CommandParser:
    """Return a parser for a command whose target is a program or a library's function.

    It has the options that all such commands have.
    """
    parser = CommandParser(
        command,
        description=description,
        epilog=epilog,
        usage=f"pydbi {command} [options] -- PROGRAM [ARGUMENT ...]\n"
        f"       pydbi {command} [options] LIBRARY FUNCTION [ARGUMENT ...]",
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--all", action="store_true", help="the instructions of all modules")
    parser.add_argument(
        "--module",
        action="append",
        type=os.path.basename,
        default=[],
        metavar="NAME",
        help="this module's instructions (file name, as libc.so.6; can be repeated)",
    )
    parser.add_argument(
        "--follow-exec",
        action="store_true",
        help="go on with what the program executes in its place",
    )
    parser.add_argument("--quiet", action="store_true", help="no messages, no progress display")
    return parser


def not_negative(text: str) -> int:
    """Return the number that *text* is, for an option.

    Raises:
        ArgumentTypeError: it is none, or negative.
    """
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


class Command(NamedTuple):
    """A command line, taken apart."""

    options: argparse.Namespace
    program: list[str]
    """The program and its arguments; empty if the target is a function."""


def parse_command(parser: CommandParser, arguments: Sequence[str]) -> Command:
    """Split options and target.

    If only options stand before ``--``, a program stands behind it.

    Raises:
        UsageError: the command is wrong.
    """
    words = list(arguments)
    place = words.index("--") if "--" in words else len(words)
    options = parser.parse_intermixed_args(words[:place])
    behind = words[place + 1 :]
    if options.words or place == len(words):
        options.words += behind
        if options.follow_exec:
            raise UsageError("--follow-exec is for programs, which stand behind --")
        return Command(options, [])
    if not behind:
        raise UsageError("no program given behind -- (--help tells more)")
    if options.result:
        raise UsageError("--result is for functions of libraries; a program has an exit status")
    return Command(options, behind)


def messages_of(name: str, command: Command) -> Messages:
    """Return the messages of a command with these options."""
    wanted = not command.options.quiet
    return Messages.beside_program(name, wanted) if command.program else Messages(name, wanted)
