"""Run a command of the package inside the test process."""

import importlib
import sys
from typing import NamedTuple

import pytest

from ddpm_jax import command_line


class Result(NamedTuple):
    status: int
    out: str
    err: str


def forget(values) -> None:
    """Flags as before they were first read; a config's overrides are flags too."""
    values.unparse_flags()
    for name in [name for name in values if name.startswith("config.")]:
        delattr(values, name)


@pytest.fixture
def command(monkeypatch, capsys):
    """command("sample", "--out=x", ...) is `python -m ddpm_jax.sample --out=x ...`,
    and "data_prep.convert" is that module."""

    def run(name, *arguments):
        module = importlib.import_module(name if "." in name else f"ddpm_jax.{name}")
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        forget(module.FLAGS)
        try:
            command_line.run(module.main, module.__doc__, module.FLAGS)
            status = 0
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run
