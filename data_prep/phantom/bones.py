"""The bones of hip and pelvis as implicit solids, sampled to clouds of points.

A bone is a function from points [n, 3] to signed distance in mm, negative inside;
its cloud is what the projector sums. Coordinates are LPS for the patient's LEFT
side: +x lateral, +y posterior, +z superior, mm, origin midway between the hips. The
landmarks are an adult male's, from memory of anatomical means (hip centres 172 mm
apart, neck-shaft angle 128 deg, anteversion 13 deg), good to about 5 mm; they are
drawn for looks, not measured on a person.
"""

import functools
from typing import NamedTuple

import numpy as np

from data_prep.phantom.distances import blend, chains, egg, polygon, rod

HIP = np.array([86.0, 0.0, 0.0], np.float32)
HEAD_RADIUS = 24.0
SOCKET_RADIUS = 27.0
CELL = 24.0
SOCKET_AXIS = np.array([0.68, -0.22, -0.70], np.float32)

BRIM = ((54, 62, 45, 9), (66, 25, 20, 9), (66, -8, 8, 12), (48, -34, -4, 10))
SUPERIOR_RAMUS = ((48, -34, -4, 10), (20, -50, -13, 9))
INFERIOR_RAMUS = ((15, -47, -38, 8), (33, -22, -59, 7.5), (51, 10, -72, 10))
ISCHIUM = ((76, 22, -8, 15), (67, 29, -38, 14), (59, 23, -63, 15))
POSTERIOR_COLUMN = ((78, 30, 12, 12), (64, 50, 34, 9))
ISCHIAL_SPINE = ((66, 38, -4, 6), (50, 50, -10, 2.5))
ANTERIOR_SPINES = ((95, -32, 38, 6), (90, -18, 24, 9)), ((117, -47, 78, 6),) * 2
PELVIC_CHAINS = (
    BRIM, SUPERIOR_RAMUS, INFERIOR_RAMUS, ISCHIUM, POSTERIOR_COLUMN, ISCHIAL_SPINE,
    *ANTERIOR_SPINES,
)  # fmt: skip

WING_OUTLINE = (
    (-41, 76), (-33, 56), (-29, 38), (-12, 20), (25, 18), (47, 36), (62, 46),
    (78, 46), (92, 66), (82, 92), (60, 112), (34, 121), (8, 121), (-18, 109),
    (-36, 90),
)  # fmt: skip
WING_SHEET = (
    (-50, 72, 117), (-40, 95, 124), (-15, 115, 131), (15, 130, 128), (45, 128, 108),
    (70, 115, 84), (98, 70, 48), (85, 42, 47), (60, 60, 60), (40, 40, 68),
    (-36, 40, 97), (0, 35, 88), (0, 80, 110), (-25, 80, 117), (30, 80, 94),
)  # fmt: skip

SACRAL_BODIES = (
    ((0, 46, 78), (27, 17, 15)), ((0, 66, 58), (22, 14, 13)),
    ((0, 80, 36), (19, 12, 12)), ((0, 84, 13), (16, 10, 11)),
    ((0, 78, -8), (13, 8, 10)), ((0, 67, -26), (8, 6, 8)), ((0, 57, -38), (5, 5, 7)),
)  # fmt: skip
SACRAL_CHAINS = (
    ((22, 54, 80, 12), (48, 64, 76, 12)), ((20, 70, 58, 10), (44, 76, 54, 10)),
    ((18, 82, 36, 8), (34, 84, 32, 8)), ((14, 84, 14, 7), (24, 83, 8, 6)),
    ((48, 64, 74, 11), (40, 76, 50, 10), (31, 84, 28, 7), (20, 82, 4, 6)),
    ((0, 84, 72, 5), (0, 96, 50, 5), (0, 100, 28, 4)),
)  # fmt: skip
FORAMINA = ((21, 68), (19, 47), (16, 25), (13, 4))
VERTEBRAE = ((24, 109, 26, 18), (14, 145, 25, 17))

FEMORAL_CHAINS = (
    ((6, 1, -5, 18), (31, 7, -27, 15.5), (40, 9, -40, 17)),
    ((42, 11, -42, 17), (43, 11, -62, 16.5), (41, 10, -95, 14.5), (17, 6, -340, 13.5)),
    ((40, 15, -62, 10), (27, 24, -65, 6.5)),
    ((50, 14, -34, 15), (53, 16, -17, 12), (50, 21, -6, 7)),
)


class Cloud(NamedTuple):
    """Points [n, 3] (mm) standing for cubes of edge `pitch`, and what they are of.

    Points lie in memory axis by axis, which the projector is quickest with.

    `depth` (mm) is below the bone's surface, `cortex` (mm) the cortex's thickness
    in a young adult, `spongy` the share of trabecular bone inside, 0 to 1. Points
    lie in cells, one cell's after another's: `counts` of them about `centres`, all
    within `reach` mm.
    """

    points: np.ndarray
    depth: np.ndarray
    cortex: np.ndarray
    spongy: np.ndarray
    pitch: float
    counts: np.ndarray
    centres: np.ndarray
    reach: float

    def only(self, visible):
        """The cloud's points in cells where `visible`, a bool for each cell."""
        if visible.all():
            return self
        kept = np.flatnonzero(np.repeat(visible, self.counts))
        return self._replace(
            points=np.stack([axis.take(kept) for axis in self.points.T]).T,
            depth=self.depth.take(kept),
            cortex=self.cortex.take(kept),
            spongy=self.spongy.take(kept),
            counts=self.counts[visible],
            centres=self.centres[visible],
        )


def _sheet_basis(y, z):
    y, z = y / 50, z / 50
    return np.stack([np.ones_like(y), y, z, y * z, y * y, z * z, y**3], -1)


@functools.cache
def _sheet():
    y, z, x = np.array(WING_SHEET, np.float64).T
    return np.linalg.lstsq(_sheet_basis(y, z), x, rcond=None)[0].astype(np.float32)


def wing(points):
    """Distance to the iliac wing: a curved sheet x(y, z), thick at crest and joint."""
    y, z = points[:, 1], points[:, 2]
    rim = polygon(points[:, 1:], WING_OUTLINE) - 9
    spot = np.exp(-(y * y + (z - 30) ** 2) / 700)
    joint = np.exp(-((y - 74) ** 2 + (z - 64) ** 2) / 500)
    half = 1.9 + 3.6 * np.exp(-((rim / 8) ** 2)) + 8 * spot + 6 * joint
    sheet = np.abs(points[:, 0] - _sheet_basis(y, z) @ _sheet()) * 0.88 - half
    return -blend(-sheet, -rim, 5)


def hemipelvis(points):
    """Distance to one hip bone: ilium, ischium, pubis, socket open to the femur."""
    distance = blend(wing(points), chains(points, PELVIC_CHAINS, 8), 10)
    pubis = egg(points, (15, -49, -24), (14, 9.5, 20))
    tuberosity = egg(points, (58, 19, -68), (13, 17, 15))
    wall = egg(points, (80, 3, 5), (34, 35, 36))
    for part in (pubis, tuberosity, wall):
        distance = blend(distance, part, 6)
    offset = points - HIP
    floor = SOCKET_RADIUS - np.linalg.norm(offset, axis=1)
    near = np.linalg.norm(offset, axis=1) - 46
    y = offset[:, 1]
    mouth = offset @ SOCKET_AXIS - 7 - 0.12 * y + 0.011 * y * y
    mouth = np.minimum(np.maximum(mouth, -notch(points)), -near)
    return np.maximum(
        np.maximum(distance, floor), np.maximum(mouth, 2.3 - points[:, 0])
    )


def notch(points):
    """Distance to the gap in the socket's lower rim."""
    return rod(points, (80, -5, -20, 8), (94, -8, -40, 9))


def sacrum(points):
    """Distance to the sacrum, with its foramina and 3 mm of joint on either side."""
    folded = points.copy()
    folded[:, 0] = np.abs(folded[:, 0])
    distance = chains(folded, SACRAL_CHAINS, 5)
    for centre, radii in SACRAL_BODIES:
        distance = blend(distance, egg(folded, centre, radii), 7)
    for x, z in FORAMINA:
        hole = rod(folded, (x, 20, z + 4, 4.5), (x + 1, 120, z - 4, 4))
        distance = -blend(-distance, hole, 2)
    return np.maximum(distance, 1.5 - hemipelvis(folded))


def lumbar(points):
    """Distance to the two lowest lumbar vertebrae."""
    folded = points.copy()
    folded[:, 0] = np.abs(folded[:, 0])
    distance = np.full(len(points), 1e3, np.float32)
    for y, z, width, depth in VERTEBRAE:
        offset = folded - np.float32([0, y, z])
        height = np.abs(offset[:, 2] + 0.25 * offset[:, 1])
        waist = 1 - 0.1 * np.cos(np.clip(height / 14, 0, 1) * np.pi / 2)
        ring = np.hypot(offset[:, 0] / width, offset[:, 1] / depth) / waist
        body = -blend(-(ring - 1) * depth, 13.5 - height, 3)
        arms = ((14, 14, 4, 6), (20, 26, 3, 7)), ((20, 24, 4, 5), (44, 28, 6, 3.5))
        spine = ((20, 27, 2, 6), (0, 34, -2, 5), (0, 56, -12, 5))
        arch = chains(offset, (*arms, spine), 3)
        distance = np.minimum(distance, blend(body, arch, 3))
    return distance


def femur(points):
    """Distance to the upper femur; its head is at the origin."""
    trochanter = egg(points, (51, 15, -24), (14, 16, 20))
    distance = blend(chains(points, FEMORAL_CHAINS, 7), trochanter, 6)
    return blend(distance, np.linalg.norm(points, axis=1) - HEAD_RADIUS, 4)


def _femoral_tissue(points):
    z = points[:, 2]
    shaft = np.clip((-55 - z) / 50, 0, 1)
    calcar = np.exp(-((points[:, 0] - 22) ** 2 + (z + 45) ** 2) / 300)
    bundle = rod(points, (3, 0, 20, 9), (27, 9, -52, 5))
    spongy = (0.75 + 0.55 * np.exp(-np.maximum(bundle, 0) / 5)) * (1 - shaft) ** 1.5
    return 1.3 + 6 * shaft + 2.5 * calcar, spongy


def _pelvic_tissue(points):
    rim = np.linalg.norm(points - HIP, axis=1) - SOCKET_RADIUS
    roof = np.exp(-np.abs(rim) / 3) * np.clip(points[:, 2] / 15, 0, 1)
    return 1.0 + 2.2 * roof, np.full(len(points), 0.85, np.float32)


def _axial_tissue(points):
    return np.full(len(points), 0.8, np.float32), np.full(len(points), 1.0, np.float32)


BONES = {
    "hemipelvis": (hemipelvis, _pelvic_tissue, (0, -66, -92), (142, 112, 138)),
    "sacrum": (sacrum, _axial_tissue, (-66, 18, -50), (66, 112, 98)),
    "lumbar": (lumbar, _axial_tissue, (-52, -8, 85), (52, 92, 168)),
    "femur": (femur, _femoral_tissue, (-26, -26, -340), (70, 40, 28)),
}


@functools.lru_cache(maxsize=32)
def cloud(name: str, pitch: float) -> Cloud:
    """The bone `name` sampled every `pitch` mm."""
    return sample(*BONES[name], pitch)


def sample(distance, tissue, low, high, pitch: float) -> Cloud:
    """An implicit solid within the box `low` to `high`, on a lattice turned askew.

    The turn keeps lattice planes away from every usual beam, so that the projected
    points do not beat with the pixels. `tissue` gives cortex and spongy at points.
    """
    low, high = np.float32(low), np.float32(high)
    coarse = 4 * pitch
    reach = float(np.linalg.norm(high - low)) / 2 + coarse
    ticks = np.arange(-reach, reach, coarse, dtype=np.float32)
    points = np.stack(np.meshgrid(ticks, ticks, ticks), -1).reshape(-1, 3)
    points = points @ _askew() + (low + high) / 2
    points = points[np.all((points > low - coarse) & (points < high + coarse), 1)]
    points = points[distance(points) < 0.87 * coarse + 1]
    steps = (np.arange(4, dtype=np.float32) - 1.5) * pitch
    children = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3) @ _askew()
    points = (points[:, None] + children).reshape(-1, 3)
    points = points[np.all((points > low - pitch) & (points < high + pitch), 1)]
    depth = -distance(points)
    points, depth = points[depth > -pitch / 2], depth[depth > -pitch / 2]
    order, counts, centres = _cells(points)
    points, depth = points[order], depth[order]
    cortex, spongy = tissue(points)
    reach = CELL * 3**0.5 / 2
    points = np.ascontiguousarray(points.T).T
    return Cloud(
        points, depth, cortex, spongy.astype("f4"), pitch, counts, centres, reach
    )


def _cells(points):
    """Order that sorts points by cube of edge CELL; each cube's count and centre."""
    cells, owner, counts = np.unique(
        np.floor(points / CELL).astype(np.int64) @ [1, 1000, 1000000],
        return_inverse=True,
        return_counts=True,
    )
    order = np.argsort(owner, kind="stable")
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    corner = np.floor(points[order[first]] / CELL)
    assert len(cells) == len(corner)
    return order, counts, ((corner + 0.5) * CELL).astype(np.float32)


def _askew():
    """A rotation by angles with no small ratio to a right angle."""
    (a, b, c), (d, e, f) = np.cos([0.37, 0.61, 0.83]), np.sin([0.37, 0.61, 0.83])
    first = np.array([[a, -d, 0], [d, a, 0], [0, 0, 1]])
    second = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    third = np.array([[1, 0, 0], [0, c, -f], [0, f, c]])
    return (first @ second @ third).astype(np.float32)
