"""The command line: parse, call, print, exit code. Commands are imported when they are asked for. The door to click."""

from __future__ import annotations

import errno
import logging
import os
import sys
from importlib import import_module

import click

from asif.errors import AsifError
from asif.version import VERSION

COMMANDS = {
    "build-anchors": ("asif.cli.build_anchors", "Make an anchor set from image-text pairs."),
    "classify": ("asif.cli.classify", "Label images, zero-shot."),
    "tune": ("asif.cli.tune", "Find what suits an anchor set, and keep it with it."),
    "train-ape": ("asif.cli.train:ape", "Train APE on an anchor set: a rival, for comparison."),
    "train-fusemix": ("asif.cli.train:fusemix", "Train FuseMix on an anchor set."),
    "train-freeze-align": ("asif.cli.train:freeze_align", "Train freeze-align on an anchor set."),
    "compare": ("asif.cli.compare", "Find out whether training a projector is worth it."),
    "eval": ("asif.cli.eval_", "Measure an anchor set on labelled images or captions."),
    "anchors": ("asif.cli.anchors.group", "List, inspect, verify, select and edit anchor sets."),
    "encoders": ("asif.cli.encoders", "List encoders, and rank pairs of them."),
    "doctor": ("asif.cli.doctor", "Show versions, devices, places and what is missing."),
}
STOPPED = """interrupted
  expected: the end of the command
  to do:    run it again: every anchor set is whole, as it was before or as it is to become"""
RUNNING, USAGE, DATA, FULL, INTERRUPTED = 1, 2, 3, 6, 130


class Commands(click.Group):
    """A group that imports a command only when it runs, and prints the list from one-line summaries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a user's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name or "command")
        name_variables(command, f"ASIF_{cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def name_variables(command: click.Command, prefix: str) -> None:
    """Let every option be given by environment too: ASIF_<COMMAND>_<OPTION>, as it is called on the command line."""
    for option in command.params:
        if isinstance(option, click.Option):
            variable = f"{prefix}_{max(option.opts, key=len).lstrip('-')}".replace("-", "_").upper()
            given = option.envvar or []
            option.envvar = list(dict.fromkeys([variable, *([given] if isinstance(given, str) else given)]))
    for name, inner in getattr(command, "commands", {}).items():
        name_variables(inner, f"{prefix}_{name}")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="asif")
def asif() -> None:
    """Make frozen image and text encoders multimodal, without training.

    Anchor sets live under ASIF_HOME (default: the user's data folder). Every option can be given as
    ASIF_<COMMAND>_<OPTION>. Data goes to stdout, progress to stderr.
    """


def main() -> None:
    """Run the command line and exit with the code that belongs to the outcome."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("asif").setLevel(logging.INFO)
    try:
        asif.main(prog_name="asif", standalone_mode=False, color=colours())
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except AsifError as error:
        fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        fail(STOPPED, INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader is gone: no more noise at exit
        sys.exit(RUNNING)
    except MemoryError:
        fail("out of memory\n  expected: room for one block\n  to do:    use fewer images or a smaller encoder", FULL)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fail(
            f"{error}\n  expected: {'free space' if full else 'a path that can be used'}\n  to do:    "
            f"{'free some and run the same command again' if full else 'check the path and its permissions'}",
            FULL if full else RUNNING,
        )


def fail(message: str, code: int) -> None:
    """Print an error and exit."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True, color=colours())
    click.echo(message, err=True)
    sys.exit(code)


def colours() -> bool | None:
    """Return False where NO_COLOR is set, None to let click look at the terminal."""
    return False if os.environ.get("NO_COLOR") else None
