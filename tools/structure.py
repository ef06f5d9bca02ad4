"""The structure of nnjit, counted from its source: `python tools/structure.py [--functions] [--picture FILE]`.

Prints how many files lie in a circle of imports, which imports run against the order of the rooms, and how many
functions of kernels/cpu exceed the measures of CONTRIBUTING.md. `--functions` names them. `--picture` draws the rooms.
Imports inside functions count like all others.
"""

import argparse
import ast
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Folders of a checkout that do not belong to the package.
APART = {"tests", "benchmarks", "examples", "docs", "tools", "build", "dist", "runs"}

# Rooms from the lowest floor up. A file may import from its room and from the floors below, not from other rooms of its
# floor. A file that is named here is a room by itself.
FLOORS = (
    ("errors",),
    ("registry", "terminal", "plots", "kernels/geometry", "kernels/counters", "kernels/compiler"),
    ("kernels/reference", "kernels/gpu"),
    ("kernels/cpu",),
    ("kernels/cuda",),
    ("kernels/operations",),
    ("layers", "data"),
    ("program",),
    ("storage",),
    ("training",),
    ("network",),
    ("launch", "check", "bench", "export"),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
PARAMETERS, NESTING, LINES, FILE_LINES = 8, 4, 50, 300  # the measures of kernels/cpu, at most


def files(root=ROOT):
    """Map the path of every module of the package, such as "program/plan", to its syntax tree."""
    found = {}
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root)
        if place.parts[0] not in APART and not any(part[0] == "." for part in place.parts):
            found[place.with_suffix("").as_posix()] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def imports(files, name, top=False):
    """Files of the package that a file imports; with `top` without the imports inside its functions.

    Imports under ``if TYPE_CHECKING:`` never run and are left out; tests/test_public.py lists them.
    """
    folder = name.split("/")[:-1]
    for node in _statements(files[name], top):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*folder[: len(folder) - node.level + 1], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                inner, package = "/".join([*base, alias.name]), "/".join([*base, "__init__"])
                yield next((f for f in (inner, f"{inner}/__init__", "/".join(base)) if f in files), package)


def _statements(node, top):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _statements(ast.Module(child.orelse, []), top)
        elif isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif not (top and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            yield from _statements(child, top)


def room(name):
    """Return the room of a file: the longest name in FLOORS that begins its path; None for the package's __init__."""
    parts = name.removesuffix("/__init__").split("/")
    return next((r for k in range(len(parts), 0, -1) if (r := "/".join(parts[:k])) in FLOOR), None)


def circle(files):
    """Return one circle of imports as a list of files, or []."""
    edges = {name: sorted(set(imports(files, name)) & set(files)) for name in files}
    done, way = set(), []

    def visit(name):
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        way.append(name)
        for other in edges[name]:
            if other != name and (found := visit(other)):
                return found
        done.add(way.pop())
        return []

    return next((found for name in files if (found := visit(name))), [])


def upward(files):
    """Return the imports (file, imported file) that run against the order of the rooms."""
    found = []
    for name in files:
        here = room(name)
        for other in sorted(set(imports(files, name))):
            there = room(other)
            if here is None or there is None or there == here:
                continue
            if FLOOR[there] >= FLOOR[here]:
                found.append((name, other))
    return found


def homeless(files):
    """Files outside every room."""
    return [name for name in files if room(name) is None and name != "__init__" and name != "kernels/__init__"]


def functions(root=ROOT, folder="kernels/cpu"):
    """Return (file, function, parameters, nesting, lines) of every function of a folder, inner functions too."""
    found = []
    for file in sorted((root / folder).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                arguments = node.args
                count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
                found.append((file.name, node.name, count, _depth(node), node.end_lineno - node.lineno + 1))
    return found


def _depth(node):
    """Depth of nested loops and branches; inner functions are counted separately."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.Lambda)):
            continue
        inside = _depth(child)
        if isinstance(child, (ast.For, ast.While, ast.If)):
            elif_ = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
            inside += not elif_
        deepest = max(deepest, inside)
    return deepest


def beyond(found):
    """Return the entries of `functions` that exceed a measure."""
    return [f for f in found if f[2] > PARAMETERS or f[3] > NESTING or f[4] > LINES]


def long_files(root=ROOT, folder="kernels/cpu"):
    """Return (file, lines) of the files that are longer than the measure."""
    sizes = [(file.name, len(file.read_text().splitlines())) for file in sorted((root / folder).glob("*.py"))]
    return [(name, size) for name, size in sizes if size > FILE_LINES]


def picture(files, path):
    """Draw the rooms by floors, with arrows to the rooms they use; arrows that follow from others are omitted."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    place = {}
    for number, rooms in enumerate(FLOORS):
        for k, name in enumerate(rooms):  # a single room of a floor is moved left or right, so that arrows pass it
            place[name] = ((k + 0.5) / len(rooms) if len(rooms) > 1 else 0.43 + 0.14 * (number % 2), number)
    size = Counter(room(name) for name in files if not name.endswith("__init__"))
    for above, below in _needed(files):
        arrow = {"arrowstyle": "-|>", "color": "0.5", "shrinkA": 18, "shrinkB": 20}
        axes.annotate("", xy=place[below], xytext=place[above], arrowprops=arrow)
    for name, (x, y) in place.items():
        label = f"{name}\n{size[name]} file{'s' if size[name] != 1 else ''}"
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "0.2"}
        axes.text(x, y, label, ha="center", va="center", fontsize=9, bbox=box)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(FLOORS) - 0.4)
    FigureCanvasSVG(figure)
    figure.savefig(path, metadata={"Date": None})


def _needed(files):
    """Pairs of rooms of which the first uses the second, except if it does so through a third."""
    uses = {name: set() for name in FLOOR}
    for name in files:
        here = room(name)
        uses.get(here, set()).update(room(other) for other in imports(files, name) if room(other) not in (None, here))
    below = {}
    for name in sorted(uses, key=FLOOR.get):  # from the lowest floor up
        below[name] = uses[name].union(*(below[other] for other in uses[name]))
    return [(a, b) for a in uses for b in sorted(uses[a]) if not any(b in below[c] for c in uses[a] - {b})]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the rooms as SVG")
    parser.add_argument("--functions", action="store_true", help="name what exceeds the measures")
    options = parser.parse_args(arguments)
    found, loops = files(), functions()
    way, against = circle(found), upward(found)
    print(f"circle of imports: {' -> '.join([*way, way[0]]) if way else 'none'}")
    print(f"imports against the order of the rooms: {len(against)}")
    for name, other in against:
        print(f"  {name} imports {other}")
    print(f"kernels/cpu: {len(loops)} functions, {len(beyond(loops))} beyond {PARAMETERS} parameters, {NESTING} levels"
          f" or {LINES} lines; {len(long_files())} files beyond {FILE_LINES} lines")  # fmt: skip
    for k, (what, most) in enumerate((("parameters", PARAMETERS), ("levels", NESTING), ("lines", LINES)), start=2):
        print(
            f"  {what}: at most {max(f[k] for f in loops)}, {sum(f[k] > most for f in loops)} functions beyond {most}"
        )
    if options.functions:
        for name, function, parameters, depth, lines in beyond(loops):
            print(f"  {name}: {function}: {parameters} parameters, {depth} levels, {lines} lines")
        for name, size in long_files():
            print(f"  {name}: {size} lines")
    if options.picture:
        picture(found, options.picture)
    return 1 if way or against else 0


if __name__ == "__main__":
    sys.exit(main())
