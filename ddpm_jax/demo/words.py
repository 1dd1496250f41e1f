"""What the page says, as HTML."""

import html
import time
from collections.abc import Sequence

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.demo.controls import NOT_KNOWN


def alert(error: Exception) -> str:
    return f'<div class="alert" role="alert">{html.escape(str(error))}</div>'


def chips(understood: Sequence, schema: Schema) -> str:
    """What a prompt was understood as; the words that said so on hovering."""
    parts = [
        f'<span class="chip" title="{html.escape(phrase)}">'
        f"{html.escape(schema[name].title)} <b>{html.escape(_plain(value))}</b></span>"
        for phrase, name, value in understood
    ]
    return "Understood: " + (" ".join(parts) or "<i>nothing stated</i>")


def _plain(value) -> str:
    if value is None:
        return NOT_KNOWN
    return f"{value:g}" if isinstance(value, float) else str(value)


def progress(share: float, settings, count: int, started: float) -> str:
    if share < 1:
        return f'<progress max="1" value="{share:.3f}"></progress>'
    number = count * len(settings)
    images = "1 image" if number == 1 else f"{number} images"
    return f"{images} in {time.monotonic() - started:.1f} s"
