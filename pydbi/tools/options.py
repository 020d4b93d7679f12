"""What the commands share: options, the target behind them, and messages on standard error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

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

    def report(self, error: UsageError) -> None:
        """Print what is wrong with the command."""
        print(f"{self.prog}: error: {error}", file=sys.stderr)


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
        return Command(options, [])
    if not behind:
        raise UsageError("no program given behind -- (--help tells more)")
    return Command(options, behind)


def report(command: str, message: str) -> None:
    """Print a message of a command on standard error."""
    print(f"pydbi {command}: {message}", file=sys.stderr)


class Messages:
    """A command's messages, on the standard error that it was started with.

    A program that runs in the same process may close or redirect its own.

    Args:
        command: the command's name.
        wanted: whether there are to be any.
        descriptor: where they go.
    """

    def __init__(self, command: str, wanted: bool = True, descriptor: int = 2) -> None:
        self.command = command
        self.wanted = wanted
        self._descriptor = descriptor

    @classmethod
    def for_command(cls, name: str, command: Command) -> Messages:
        """Return the messages of a command with these options."""
        descriptor = 2
        if command.program:
            from pydbi.program.descriptor_calls import move_high

            descriptor = move_high(2)
        return cls(name, not command.options.quiet, descriptor)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody is looking."""
        return os.isatty(self._descriptor)

    def open(self) -> TextIO:
        """Return a file that writes to the same place, and leaves it open."""
        return os.fdopen(self._descriptor, "w", closefd=False)

    def say(self, text: str) -> None:
        """Write lines, if messages are wanted."""
        if self.wanted:
            self.write(f"pydbi {self.command}: {text}\n")

    def write(self, text: str) -> None:
        """Write *text* as it is, wanted or not."""
        self.write_bytes(text.encode(errors="backslashreplace"))

    def write_bytes(self, data: bytes) -> None:
        """Write *data* as it is."""
        write_all(self._descriptor, data)


def write_all(descriptor: int, data: bytes) -> None:
    """Write *data* to a descriptor."""
    while data:
        data = data[os.write(descriptor, data) :]
