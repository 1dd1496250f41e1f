"""How every command of `ddpm_jax` starts, explains itself, and ends on a mistake.

Each command has flags of its own (`new_flags`), so that one process can import
several commands.
"""

import logging
import sys
import textwrap
from collections.abc import Callable

from absl import flags

PREEMPTED = 75
"""Exit status EX_TEMPFAIL (sysexits.h): saved, to be started again."""

MISTAKES = (ValueError, OSError)
UNREADABLE = (flags.Error, AttributeError, KeyError, TypeError, *MISTAKES)


class Preempted(KeyboardInterrupt):
    """SIGTERM came; all is saved, and the same command goes on from there."""


def new_flags() -> flags.FlagValues:
    """Flags of one command; `--help` is there already."""
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "Show this text.", flag_values=values)
    return values


def run(main: Callable[[], None], doc: str, values: flags.FlagValues) -> None:
    """Read the flags, run `main()` and exit: 0 only when all of it worked.

    A ValueError or OSError is the user's and becomes one line on stderr, exit 1; a
    flag that cannot be read exits 2, `Preempted` 75, any other interrupt 130.
    """
    logging.getLogger().setLevel(logging.WARNING)
    flags.FLAGS.mark_as_parsed()  # grain's workers read absl's own flags
    if {"--help", "-h", "-help"} & set(sys.argv[1:]):
        print(help_text(doc, values))
        sys.exit(0)
    try:
        rest = values(sys.argv)
    except UNREADABLE as error:
        fail(_flag_error(error), 2)
    if len(rest) > 1:
        fail(f"{rest[1]!r}: not a flag; see --help.", 2)
    try:
        main()
    except Preempted:
        fail("stopped by SIGTERM; run the same command again.", PREEMPTED)
    except KeyboardInterrupt:
        fail("interrupted.", 130)
    except MISTAKES as error:
        fail(str(error), 1)


def require(values: flags.FlagValues, *names: str) -> None:
    """ValueError where one of the flags is not given."""
    missing = [f"--{name}" for name in names if not _given(values[name])]
    if missing:
        raise ValueError(f"{', '.join(missing)}: needed; see --help.")


def _given(flag: flags.Flag) -> bool:
    return bool(flag.present) or flag.value is not None


def help_text(doc: str, values: flags.FlagValues) -> str:
    """The module's docstring, then each flag with its default."""
    lines = [doc.strip(), "", "Flags:"]
    for name in sorted(values):
        flag = values[name]
        given = flag.default
        shown = ",".join(map(str, given)) if isinstance(given, list) else given
        default = "" if given in (None, "", []) else f" [{shown}]"
        text = " ".join((flag.help or "").split()) + default
        lines += [f"  --{name}", textwrap.indent(textwrap.fill(text, 80), " " * 6)]
    return "\n".join(lines)


def _flag_error(error: Exception) -> str:
    if isinstance(error, KeyError | AttributeError):
        said = str(error.args[0]).replace("\\n", ". ").replace("\\'", "").strip("'")
        return f"no such key in the config: {said}"
    before, found, trace = str(error).partition("Traceback (most recent call last)")
    return before + trace.strip().splitlines()[-1] if found else before


def fail(message: str, status: int):
    """Print one line to stderr and exit."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)
