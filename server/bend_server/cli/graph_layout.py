"""Where the boxes of a drawing stand: layers from top to bottom, few crossings, short edges.

Edges over several layers get a waypoint in each, which takes part in the order, so that they do
not run through boxes. Source: Sugiyama, Tagawa, Toda, "Methods for visual understanding of
hierarchical system structures" (1981): layers, barycentres, then coordinates.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

SWEEPS = 6
# Beyond so many, edges run straight: the drawing of such a graph is a tangle anyway.
WAYPOINTS_MAX = 5000
WAYPOINT_WIDTH = 12.0
GAP_X, GAP_Y = 28.0, 44.0


class Spot(NamedTuple):
    """Centre of a box, its top, and the bottom of its layer; in pixels."""

    x: float
    top: float
    bottom: float


class Layout(NamedTuple):
    """Spots of the boxes; of each edge (from, to) the waypoints; width and height of all."""

    boxes: tuple[Spot, ...]
    edges: tuple[tuple[int, int, tuple[Spot, ...]], ...]
    width: float
    height: float


class _Grid:
    """Boxes and waypoints in layers; each is a number, waypoints after the boxes."""

    def __init__(self, layers: Sequence[int], before: Sequence[Sequence[int]]) -> None:
        self.layer = list(layers)
        self.chains: list[tuple[int, int, list[int]]] = []
        self.above: list[list[int]] = [[] for _ in layers]
        self.below: list[list[int]] = [[] for _ in layers]
        edges = [(other, task) for task, row in enumerate(before) for other in row]
        spans = sum(layers[task] - layers[other] - 1 for other, task in edges)
        for other, task in edges:
            chain = [other]
            if spans <= WAYPOINTS_MAX:
                for layer in range(layers[other] + 1, layers[task]):
                    chain.append(len(self.layer))
                    self.layer.append(layer)
                    self.above.append([])
                    self.below.append([])
            chain.append(task)
            for upper, lower in pairwise(chain):
                self.below[upper].append(lower)
                self.above[lower].append(upper)
            self.chains.append((other, task, chain[1:-1]))
        self.rows: list[list[int]] = [[] for _ in range(max(self.layer, default=0) + 1)]
        for node, layer in enumerate(self.layer):
            self.rows[layer].append(node)

    def order(self) -> None:
        """Sort each row by the middle of its neighbours, downwards and upwards in turn."""
        place = [0.0] * len(self.layer)
        for row in self.rows:
            for at, node in enumerate(row):
                place[node] = at
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            near = self.above if down else self.below
            for row in self.rows if down else reversed(self.rows):
                row.sort(key=lambda node, near=near: _mean(near[node], place, place[node]))  # type: ignore[misc]
                for at, node in enumerate(row):
                    place[node] = at

    def columns(self, width: Callable[[int], float]) -> list[float]:
        """Return the x of each box and waypoint: near its neighbours, without overlaps."""
        x = [0.0] * len(self.layer)
        for row in self.rows:
            self._spread(row, [0.0] * len(row), width, x)
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            near = self.above if down else self.below
            for row in self.rows if down else reversed(self.rows):
                self._spread(row, [_mean(near[node], x, x[node]) for node in row], width, x)
        return x

    def _spread(
        self, row: list[int], wanted: list[float], width: Callable[[int], float], x: list[float]
    ) -> None:
        """Push apart what overlaps, half to the left and half to the right."""
        apart = [(width(one) + width(two)) / 2 + GAP_X for one, two in pairwise(row)]
        right, left = list(wanted), list(wanted)
        for at, least in enumerate(apart):
            right[at + 1] = max(right[at + 1], right[at] + least)
        for at in range(len(apart) - 1, -1, -1):
            left[at] = min(left[at], left[at + 1] - apart[at])
        for node, one, two in zip(row, right, left, strict=True):
            x[node] = (one + two) / 2


def _mean(nodes: Sequence[int], values: Sequence[float], otherwise: float) -> float:
    return sum(values[node] for node in nodes) / len(nodes) if nodes else otherwise


def lay_out(
    layers: Sequence[int],
    before: Sequence[Sequence[int]],
    sizes: Sequence[tuple[float, float]],
) -> Layout:
    """Place boxes.

    Args:
        layers: of each box, from 0.
        before: of each box, the boxes that edges come from; they are in layers above.
        sizes: width and height of each box, pixels.
    """
    grid = _Grid(layers, before)
    grid.order()

    def width(node: int) -> float:
        return sizes[node][0] if node < len(sizes) else WAYPOINT_WIDTH

    x = grid.columns(width)
    left = min((x[node] - width(node) / 2 for node in range(len(x))), default=0.0)
    spots: list[Spot] = [Spot(0, 0, 0)] * len(x)
    top = 0.0
    for row in grid.rows:
        height = max((sizes[node][1] for node in row if node < len(sizes)), default=0.0)
        for node in row:
            spots[node] = Spot(round(x[node] - left, 1), top, top + height)
        top += height + GAP_Y
    edges = tuple(
        (one, two, tuple(spots[node] for node in chain)) for one, two, chain in grid.chains
    )
    right = max((x[node] + width(node) / 2 for node in range(len(x))), default=0.0)
    return Layout(tuple(spots[: len(sizes)]), edges, right - left, max(top - GAP_Y, 0.0))
