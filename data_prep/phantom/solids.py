"""Convex solids and rays: where a ray enters and leaves, in closed form.

A solid is called with the rays' common `origin` [3] and unit `directions` [n, 3] and
returns `(enter, leave)` [n] in mm along the ray, `enter == leave` for a miss.
"""

from typing import NamedTuple

import numpy as np

FAR = np.float32(1e4)


def between(enter, leave):
    """The interval, or an empty one at 0 where `leave` does not come after `enter`."""
    hit = leave > enter
    return np.where(hit, enter, 0), np.where(hit, leave, 0)


class Ellipsoid(NamedTuple):
    """Axis-aligned ellipsoid: |(p - centre) / radii| <= 1."""

    centre: np.ndarray
    radii: np.ndarray

    def __call__(self, origin, directions):
        start = (origin - self.centre) / self.radii
        a = np.square(directions) @ np.float32(1 / np.square(self.radii))
        b = directions @ np.float32(start / self.radii)
        root = np.sqrt(np.maximum(b * b - a * np.float32(start @ start - 1), 0))
        return between((-b - root) / a, (-b + root) / a)


class HalfSpace(NamedTuple):
    """All points with (p - point) . normal <= 0."""

    point: np.ndarray
    normal: np.ndarray

    def __call__(self, origin, directions):
        height = np.float32((origin - self.point) @ self.normal)
        climb = directions @ np.float32(self.normal)
        level = np.abs(climb) < 1e-7
        cut = -height / np.where(level, 1, climb)
        never = np.where(height <= 0, FAR, -FAR)
        leave = np.where(level, never, np.where(climb > 0, cut, FAR))
        return between(np.where(~level & (climb < 0), cut, -FAR), leave)


class Capsule(NamedTuple):
    """Convex hull of two balls, `start` and `end` with their radii: a tapered rod."""

    start: np.ndarray
    end: np.ndarray
    start_radius: float
    end_radius: float

    def __call__(self, origin, directions):
        balls = (
            Ellipsoid(self.start, np.full(3, self.start_radius)),
            Ellipsoid(self.end, np.full(3, self.end_radius)),
        )
        return hull(
            *(ball(origin, directions) for ball in balls),
            self._mantle(origin, directions),
        )

    def _mantle(self, origin, directions):
        """The frustum between the circles where the common cone touches the balls."""
        axis = np.float32(self.end - self.start)
        length = float(np.linalg.norm(axis))
        sine = (self.start_radius - self.end_radius) / max(length, 1e-6)
        if abs(sine) >= 1:
            return np.zeros((2, len(directions)), np.float32)
        axis, cosine = axis / length, np.sqrt(1 - sine * sine)
        low, high = self.start_radius * sine, length + self.end_radius * sine
        offset = np.float32(origin - self.start)
        height, climb = offset @ axis, directions @ axis
        radius, taper = self.start_radius / cosine, -sine / cosine
        width, widen = radius + taper * height, taper * climb
        a = 1 - climb * climb - widen * widen
        b = directions @ offset - climb * height - widen * width
        c = offset @ offset - height * height - width * width
        cone = _inside_cone(a, b, c, width, widen)
        first = HalfSpace(self.start + axis * low, -axis)
        last = HalfSpace(self.start + axis * high, axis)
        ends = (plane(origin, directions) for plane in (first, last))
        return meet(cone, *ends)


def _inside_cone(a, b, c, width, widen):
    """Where a t^2 + 2 b t + c <= 0 on the nappe on which width + widen t >= 0."""
    a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0))
    first, second = (-b - root) / np.abs(a), (-b + root) / np.abs(a)
    first, second = np.where(a > 0, first, -second), np.where(a > 0, second, -first)
    enter = np.where(a > 0, first, np.where(widen > 0, second, -FAR))
    leave = np.where(a > 0, second, np.where(widen > 0, FAR, first))
    missed = (a > 0) & (square <= 0)
    return between(np.where(missed, 0, enter), np.where(missed, 0, leave))


def meet(*spans):
    """Intersection of intervals."""
    enter = np.maximum.reduce([span[0] for span in spans])
    return between(enter, np.minimum.reduce([span[1] for span in spans]))


def hull(*spans):
    """The shortest interval that holds all of `spans`; empty ones count for nothing."""
    hits = [leave > enter for enter, leave in spans]
    enters = [np.where(hit, s[0], FAR) for hit, s in zip(hits, spans, strict=True)]
    leaves = [np.where(hit, s[1], -FAR) for hit, s in zip(hits, spans, strict=True)]
    return between(np.minimum.reduce(enters), np.maximum.reduce(leaves))


def subtract(span, hole):
    """`span` without `hole`: two intervals, either of which may be empty."""
    open_ = hole[1] > hole[0]
    left = np.where(open_, np.minimum(span[1], hole[0]), span[1])
    right = np.where(open_, np.maximum(span[0], hole[1]), span[1])
    return between(span[0], left), between(right, span[1])


def length(*spans):
    """Length [n] of the union of intervals, each stretch counted once.

    With starts and ends sorted apart, a gap lies before the k-th start if and only
    if all k - 1 earlier intervals have ended: union = span - sum of such gaps.
    """
    if len(spans) == 1:
        return spans[0][1] - spans[0][0]
    starts = np.sort(np.stack([span[0] for span in spans], -1), -1)
    ends = np.sort(np.stack([span[1] for span in spans], -1), -1)
    gaps = np.maximum(starts[:, 1:] - ends[:, :-1], 0).sum(-1)
    return ends[:, -1] - starts[:, 0] - gaps
