"""Let readers tell real from synthetic radiographs, or judge the labels of these.

    python -m ddpm_jax.reader_study design --real shards --synthetic images --out study
    python -m ddpm_jax.reader_study serve --study study
    python -m ddpm_jax.reader_study analyse --study study --out result

`design` draws a blinded set, `serve` shows it to readers in a browser, `analyse` says
what they found. Each explains itself with --help; see docs/reader_study.md.
"""

import importlib
import sys

from ddpm_jax import command_line

COMMANDS = ("design", "serve", "analyse")


def main(arguments: list[str]) -> None:
    if arguments and arguments[0] in ("--help", "-h", "-help"):
        print(__doc__.strip())
        return
    if not arguments or arguments[0] not in COMMANDS:
        given = repr(arguments[0]) if arguments else "nothing"
        command_line.fail(f"{given}: expected one of {', '.join(COMMANDS)}.", 2)
    module = importlib.import_module(f"ddpm_jax.reader_study.{arguments[0]}")
    sys.argv = [f"reader_study {arguments[0]}", *arguments[1:]]
    command_line.run(module.main, module.__doc__, module.FLAGS)


if __name__ == "__main__":
    main(sys.argv[1:])
