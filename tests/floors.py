"""The graph of imports of xlatrain/, computed from its files: `python -m tests.floors` draws the house.

A room is a folder of the package; the files that lie in its root are the ground, but for the two through which one
comes in. All that is written down here is the order of the rooms; which file imports which is read from the files.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "xlatrain"

# From the ground up. Rooms of one floor do not import each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("ground",),
    ("config", "xla", "checkpoint"),
    ("data", "models", "optim"),
    ("preflight",),
    ("engine",),
    ("planning", "bundle", "formats", "doctor", "launching", "reporting"),
    ("cli",),
    ("__init__", "__main__"),
)
# The same for the rooms within a room.
INNER: dict[str, tuple[tuple[str, ...], ...]] = {"data": (("storage", "pixels"), ("",), ("make_shards",))}

Graph = dict[str, set[str]]

_TARGET = re.compile(r"xlatrain(\.\w+)+:\w+")  # what `launch` and the table of verbs name


def files() -> list[Path]:
    """Every file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """A file as the name it is imported by, without the package's: `data.order`; a folder's own file is `data`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported_names(path: Path) -> Iterator[str]:
    """All that a file imports, by full names, wherever in the file it does, and what it names for another process to
    import: "xlatrain.engine.train:train_replica"."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), ".".join(package))
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _TARGET.fullmatch(node.value):
            yield node.value.partition(":")[0]


def import_graph() -> Graph:
    """Which file imports which."""
    known = {name_of(path) for path in files()}
    graph: Graph = {}
    for path in files():
        found = set()
        for name in imported_names(path):
            parts = name.split(".")
            if parts[0] == PACKAGE.name:
                prefixes = (".".join(parts[1:n]) for n in range(len(parts), 1, -1))
                found.add(next((p for p in prefixes if p in known), "__init__"))
        graph[name_of(path)] = found - {name_of(path)}
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """Groups of files of which each reaches every other (strongly connected, Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def room_of(name: str) -> str:
    """The room that a file is in."""
    first = name.split(".")[0]
    return first if first in FLOORS[-1] or (PACKAGE / first).is_dir() else "ground"


def arrows(graph: Graph) -> list[tuple[str, str]]:
    """The imports from room to room, each once."""
    return sorted({(room_of(a), room_of(b)) for a, others in graph.items() for b in others if room_of(a) != room_of(b)})


def upward(graph: Graph) -> list[str]:
    """Imports that run up, or along a floor to another room of it."""
    level = {room: n for n, floor in enumerate(FLOORS) for room in floor}
    wrong = []
    for name, others in graph.items():
        for other in others:
            a, b = room_of(name), room_of(other)
            within = _inner_level(name), _inner_level(other)
            if a != b and level[b] >= level[a]:
                wrong.append(f"{name} imports {other}, which is no floor below it")
            elif a == b and within[1] > within[0]:
                wrong.append(f"{name} imports {other}, which is above it in {a}/")
    return sorted(wrong)


def _inner_level(name: str) -> int:
    parts = name.split(".")
    floors = INNER.get(parts[0], ())
    inner = parts[1] if len(parts) > 2 else ""
    known = [n for n, floor in enumerate(floors) if (parts[1] if len(parts) > 1 else "") in floor or inner in floor]
    return known[0] if known else 0


def unknown_rooms() -> set[str]:
    """Rooms that stand on no floor."""
    return {room_of(name_of(path)) for path in files()} - {room for floor in FLOORS for room in floor}


def main() -> None:
    graph = import_graph()
    lines = {path: len(path.read_text().splitlines()) for path in files()}
    for number, floor in reversed(list(enumerate(FLOORS, 1))):
        for room in floor:
            mine = {path: n for path, n in lines.items() if room_of(name_of(path)) == room}
            below = sorted({b for a, b in arrows(graph) if a == room})
            print(f"floor {number}  {room:9} {len(mine):3} files {sum(mine.values()):5} lines  -> {', '.join(below)}")
    rooms = {room_of(name) for name in graph}
    print(f"\n{len(rooms)} rooms, {len(FLOORS)} floors, {len(arrows(graph))} arrows, {len(circles(graph))} circles")
    for circle in circles(graph):
        print(f"circle: {' '.join(circle)}")
    for text in upward(graph):
        print(text)


if __name__ == "__main__":
    main()
