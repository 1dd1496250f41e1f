"""Signed distances in mm from points [n, 3] to simple solids, negative inside."""

import numpy as np


def rod(points, start, end):
    """Distance to a rod whose ends are (x, y, z, radius)."""
    start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
    axis = end[:3] - start[:3]
    along = (points - start[:3]) @ (axis / max(float(axis @ axis), 1e-6))
    along = np.clip(along, 0, 1)[:, None]
    gap = np.linalg.norm(points - start[:3] - along * axis, axis=1)
    return gap - (start[3] + along[:, 0] * (end[3] - start[3]))


def egg(points, centre, radii):
    """Distance to an ellipsoid, to first order in the distance."""
    scaled = (points - np.float32(centre)) / np.float32(radii)
    norm = np.linalg.norm(scaled, axis=1)
    slope = np.linalg.norm(scaled / np.float32(radii), axis=1)
    return norm * (norm - 1) / np.maximum(slope, 1e-6)


def blend(first, second, reach):
    """Union of two distances, rounded over `reach` mm (Quilez, polynomial minimum)."""
    share = np.maximum(reach - np.abs(first - second), 0) / reach
    return np.minimum(first, second) - share * share * (reach / 4)


def chains(points, tables, reach):
    """Union of rods strung through each table of (x, y, z, radius)."""
    distance = np.full(len(points), 1e3, np.float32)
    for table in tables:
        for start, end in zip(table, table[1:], strict=False):
            distance = blend(distance, rod(points, start, end), reach)
    return distance


def polygon(points, corners):
    """Signed distance [n] to a polygon in the plane, points [n, 2]."""
    corners = np.float32(corners)
    nearest = np.full(len(points), np.inf, np.float32)
    inside = np.zeros(len(points), bool)
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        offset, edge = points - start, end - start
        along = np.clip(offset @ edge / (edge @ edge), 0, 1)[:, None]
        nearest = np.minimum(nearest, np.sum((offset - along * edge) ** 2, axis=1))
        crosses = (start[1] > points[:, 1]) != (end[1] > points[:, 1])
        reach = edge[0] * (points[:, 1] - start[1]) / (edge[1] or 1) + start[0]
        inside ^= crosses & (points[:, 0] < reach)
    return np.sqrt(nearest) * np.where(inside, -1, 1)
