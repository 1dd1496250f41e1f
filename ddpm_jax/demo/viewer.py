"""What the viewer of the page is told: images as data, captions, how far it is."""

import base64
from collections.abc import Mapping, Sequence

import imagecodecs
import numpy as np

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.demo import asking
from ddpm_jax.demo.asking import Setting
from ddpm_jax.demo.studio import View

PREVIEW = 256
"""Longest side of an image that is not finished, in pixels."""

EMPTY = {"state": "empty", "figures": []}


def told(
    settings: Sequence[Setting],
    views: Sequence[View],
    seeds: Sequence[int],
    schema: Schema,
) -> dict:
    """The value of the viewer's component: a figure for each seed and setting, those of
    one seed beside each other."""
    rows = [setting.row for setting in settings]
    others = rows[::-1] if len(rows) == 2 else [None]
    captions = [
        asking.caption(row, other, schema) + _how(settings, setting)
        for row, other, setting in zip(rows, others, settings, strict=True)
    ]
    figures = [
        _figure(view, i, seed, "AB"[j] if len(views) > 1 else "", captions[j])
        for i, seed in enumerate(seeds)
        for j, view in enumerate(views)
    ]
    return {
        "state": "done" if all(view.done for view in views) else "running",
        "across": len(views),
        "progress": sum(view.share for view in views) / len(views),
        "figures": figures,
    }


def _how(settings: Sequence[Setting], setting: Setting) -> list[dict]:
    """Guidance and steps, where two settings differ in them."""
    said = [("guidance", f"{setting.guidance:g}"), ("steps", f"{setting.steps}")]
    return [
        {"text": f"{name} {value}", "differs": True}
        for name, value in said
        if len({getattr(each, name) for each in settings}) > 1
    ]


def _figure(view: View, index: int, seed: int, label: str, caption) -> Mapping:
    ready = index < view.ready
    image = view.images[index]
    return {
        "image": data_uri(image if ready else smaller(image)),
        "ready": ready,
        "seed": seed,
        "label": label,
        "caption": caption,
    }


def smaller(image: np.ndarray) -> np.ndarray:
    """Of a large image every n-th pixel, its low byte dropped: a look at it."""
    stride = -(-max(image.shape) // PREVIEW)
    return image[::stride, ::stride] & np.uint16(0xFF00)


def data_uri(image: np.ndarray) -> str:
    """uint16 [h, w] as an 8-bit RGB PNG whose red is the high byte and green the low
    one: browsers read 8 bits a channel, the viewer puts the 16 together again."""
    parts = np.stack([image >> 8, image & 0xFF, np.zeros_like(image)], axis=-1)
    content = imagecodecs.png_encode(parts.astype(np.uint8), level=3)
    return "data:image/png;base64," + base64.b64encode(content).decode()
