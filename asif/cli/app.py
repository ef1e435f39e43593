"""The command line: the table of commands, each imported when it runs, and `main` with the exit codes."""

from __future__ import annotations

import errno
import logging
import os
import sys
from importlib import import_module
from io import StringIO

import click

from asif.cli import options
from asif.errors import AsifError, UsageError, suggest_nearest
from asif.version import VERSION

COMMANDS = {
    "build-anchors": ("asif.cli.build_anchors", "Make an anchor set from image-text pairs."),
    "classify": ("asif.cli.classify", "Label images, zero-shot."),
    "tune": ("asif.cli.tune", "Tune aligner and parameters; save them as a profile."),
    "train-ape": ("asif.cli.train:ape", "Train APE on an anchor set: a rival, for comparison."),
    "train-fusemix": ("asif.cli.train:fusemix", "Train FuseMix on an anchor set."),
    "train-freeze-align": ("asif.cli.train:freeze_align", "Train freeze-align on an anchor set."),
    "compare": ("asif.cli.compare", "Compare training-free aligners with trained projectors."),
    "eval": ("asif.cli.eval_", "Measure an anchor set on labelled images or captions."),
    "anchors": ("asif.cli.anchors.group", "List, inspect, verify, select and edit anchor sets."),
    "gallery": ("asif.cli.gallery", "Make galleries of images or texts; update them."),
    "search": ("asif.cli.search", "Search a gallery by words or images, and say why."),
    "serve": ("asif.cli.serve", "Serve classification and search over HTTP, with a page."),
    "encoders": ("asif.cli.encoders", "List encoders, rank pairs, measure backends."),
    "doctor": ("asif.cli.doctor", "Show versions, devices, places and what is missing."),
}
_INTERRUPTED = ("interrupted", "the end of the command", "run the same command to resume; no set was damaged")
_OUT_OF_MEMORY = ("out of memory", "room for one block", "use fewer images or a smaller encoder")
EXIT_FAILED, EXIT_BAD_DATA, EXIT_FULL, EXIT_INTERRUPTED = 1, 3, 6, 130


class SuggestingGroup(click.Group):
    """A group that suggests the nearest command for one that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; raises UsageError for an unknown one."""
        name, known = args[0], self.list_commands(ctx)
        if name in known or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise UsageError(
            f"No such command {name[:80]!r} of {ctx.command_path}",
            f"one of {', '.join(known)}",
            suggest_nearest(name, known, f"see {ctx.command_path} --help"),
        )


class _LazyGroup(SuggestingGroup):
    """A group that imports a command only when it runs, and lists commands from a table of summaries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name or "command")
        _name_variables(command, f"ASIF_{cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _name_variables(command: click.Command, prefix: str) -> None:
    """Let every option be set in the environment, too: ASIF_<COMMAND>_<OPTION>."""
    for option in command.params:
        if isinstance(option, click.Option):
            variable = f"{prefix}_{max(option.opts, key=len).lstrip('-')}".replace("-", "_").upper()
            names = option.envvar or []
            option.envvar = list(dict.fromkeys([variable, *([names] if isinstance(names, str) else names)]))
    for name, inner in getattr(command, "commands", {}).items():
        _name_variables(inner, f"{prefix}_{name}")


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="asif")
def asif() -> None:
    """Make frozen image and text encoders multimodal, without training.

    Anchor sets live under ASIF_HOME (default: the user's data folder). Every option can be given as
    ASIF_<COMMAND>_<OPTION>. Data goes to stdout, progress to stderr.
    """


class _StderrHandler(logging.Handler):
    """Print log messages as notices."""

    def emit(self, record: logging.LogRecord) -> None:
        options.print_notice(self.format(record))


def main() -> None:
    """Run the command line; exit with the code of the error if there is one."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_StderrHandler()])
    logging.getLogger("asif").setLevel(logging.INFO)
    try:
        asif.main(prog_name="asif", standalone_mode=False)
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        options.print_notice(shown.getvalue().rstrip())
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except AsifError as error:
        _exit_with_error(error, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _exit_with_error(AsifError(*_INTERRUPTED), EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader closed the pipe: no error at exit
        sys.exit(EXIT_FAILED)
    except (MemoryError, ImportError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _exit_with_error(AsifError(*_OUT_OF_MEMORY), EXIT_FULL)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        expected = "free space" if full else "a path that can be used"
        fix = "free some and run the same command again" if full else "check the path and its permissions"
        _exit_with_error(AsifError(str(error), expected, fix), EXIT_FULL if full else EXIT_FAILED)


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that memory is full: also one of a library that cannot be mapped, or of a thread."""
    words = ("failed to map segment", "cannot allocate memory", "can't start new thread")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def _exit_with_error(error: AsifError, code: int) -> None:
    """Print an error in three lines, whatever its parts contain, and exit."""
    parts = (options.escape_controls(part) for part in (error.came, error.expected, error.fix))
    options.print_text("error: ", fg="red", bold=True, nl=False, err=True)
    options.print_notice(str(AsifError(*parts)))
    sys.exit(code)
