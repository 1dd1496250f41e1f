"""Traces of a few training steps, for xprof: what the device did, and the host."""

import re
from collections.abc import Callable
from pathlib import Path

import jax

from ddpm_jax.training import distributed, monitoring

WARM_UP = 2
"""Steps before a trace that names none: the first is compiled."""

Span = tuple[int, int]
"""First and last step, both traced."""


def span(text: str, start: int) -> Span | None:
    """ "10:15" is steps 10 to 15; "5" is 5 steps, a little after `start`; "" is none.

    ValueError where it is neither.
    """
    if not text:
        return None
    found = re.fullmatch(r"([1-9]\d*)(?::([1-9]\d*))?", text)
    if found:
        first, last = found.groups()
        if last is None:
            return start + WARM_UP + 1, start + WARM_UP + int(first)
        if int(first) <= int(last):
            return int(first), int(last)
    raise ValueError(
        f"--profile = {text!r}: expected a number of steps, or FIRST:LAST, e.g. 10:15."
    )


def within(asked: Span | None, last: int) -> tuple[Span | None, Span | None]:
    """(what of `asked` begins until step `last`, what is left for later)."""
    begins = asked is not None and asked[0] <= last
    return (asked, None) if begins else (None, asked)


def say_untraced(asked: Span | None) -> None:
    """That no step of `asked` came; nothing where it is None."""
    if asked:
        monitoring.say(f"nothing traced: not at steps {asked[0]} to {asked[1]}")


class Traced:
    """`step`, of whose calls `start` + 1, `start` + 2, … those in `traced` are traced.

    The trace is of the first process, under `folder`. Waits for the device before and
    after it.
    """

    def __init__(self, step: Callable, traced: Span | None, folder: Path, start: int):
        self.step, self.folder, self.number = step, folder, start
        self.first, self.last = traced or (0, 0)
        self.tracing = self.done = False

    def __call__(self, *arguments):
        self.number += 1
        if self.number == self.first and distributed.leads():
            jax.block_until_ready(arguments)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # it slows what it is to time
            jax.profiler.start_trace(self.folder, profiler_options=options)
            self.tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=self.number):
            result = self.step(*arguments)
        if self.tracing and self.number == self.last:
            jax.block_until_ready(result)
            self.close()
        return result

    def close(self) -> None:
        """End the trace, also one that an early end of the run has cut short."""
        if self.tracing:
            jax.profiler.stop_trace()
            self.tracing, self.done = False, True
            monitoring.say(
                f"traced steps {self.first} to {self.number}; look at them with "
                f"`tensorboard --logdir {self.folder}` (pip install tensorboard xprof)"
            )
        elif self.first and not self.done:
            say_untraced((self.first, self.last))
