"""The rules of the house as functions: module in, list of violations out."""

from __future__ import annotations

import ast

import multilevel
from tests.architecture.source import (
    RANKS,
    Module,
    code_lines,
    decorators,
    dotted,
    functions,
    is_declaration,
    targets,
)

MAX_FILE_LINES = 400
MAX_TEST_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_INIT_LINES = 120

#: Functions that may be longer, each with its reason (an optimiser's loop may).
LONG_FUNCTIONS = {"multilevel.estimate.trust_region.minimise": "the optimiser's loop"}

#: Library -> rooms that may import it (prefixes of dotted names below ``multilevel.``), and why.
ALLOWED_ROOMS = {
    # Tables cross the door through narwhals. ``design`` is the one exception: formulaic
    # materialises model matrices from a pandas frame.
    "pandas": ("tables", "report", "api", "design", "cli"),
    "polars": ("tables", "report", "api", "design", "cli"),
    "formulaic": ("model", "design"),
    "numba": ("likelihood",),
    "scipy.optimize": ("estimate",),
    "matplotlib": ("report.plots",),
    "plotnine": ("report.plots",),
    "plotly": ("report.plots",),
    "altair": ("report.plots",),
    "flask": ("studio",),
    "fastapi": ("studio",),
    "starlette": ("studio",),
}

#: ``multilevel.fit`` counts as an import of its home.
PUBLIC_HOMES = {f"multilevel.{name}": home for name, home in multilevel._HOME.items()}

MODERN_RANDOM = {"default_rng", "Generator", "SeedSequence", "PCG64", "Philox", "BitGenerator"}


def room_ranks(module: Module) -> list[str]:
    if module.room not in RANKS:
        return [module.at(1, f"room {module.room!r} has no rank in tests/architecture/source.py")]
    found = []
    for line, written in targets(module):
        target = PUBLIC_HOMES.get(written, written)
        parts = target.split(".")
        if parts[0] != "multilevel" or target == "multilevel.__version__":
            continue
        if len(parts) < 2:
            if module.rank < RANKS["cli"]:
                found.append(module.at(line, "the public door is for shells: import from a room"))
        elif parts[1] == module.room:
            continue
        elif parts[1] not in RANKS:
            found.append(module.at(line, f"import of {target}: take names from their home module"))
        elif RANKS[parts[1]] >= module.rank:
            found.append(
                module.at(
                    line,
                    f"{module.room} (rank {module.rank}) imports {target} (rank "
                    f"{RANKS[parts[1]]}); only lower ranks are allowed, move what both share down",
                )
            )
    return found


def import_cycles(modules: list[Module]) -> list[str]:
    known = {m.name for m in modules}
    graph: dict[str, set[str]] = {}
    for module in modules:
        edges = set()
        for _, target in targets(module):
            name = target if target in known else target.rpartition(".")[0]
            if name in known and name != module.name:
                edges.add(name)
        graph[module.name] = edges
    state: dict[str, int] = {}
    cycles: list[str] = []

    def visit(name: str, path: list[str]) -> None:
        state[name] = 1
        for other in sorted(graph[name]):
            if state.get(other) == 1:
                start = path.index(other) if other in path else 0
                cycles.append("import cycle: " + " -> ".join([*path[start:], other]))
            elif other not in state:
                visit(other, [*path, other])
        state[name] = 2

    for name in sorted(graph):
        if name not in state:
            visit(name, [name])
    return cycles


def sizes(module: Module) -> list[str]:
    found = []
    limit = MAX_INIT_LINES if module.is_package else MAX_FILE_LINES
    if module.n_lines > limit:
        found.append(module.at(limit, f"{module.n_lines} lines, at most {limit}: split by noun"))
    for function, _, _ in functions(module.tree):
        most = MAX_INIT_LINES if function.name == "__init__" else MAX_FUNCTION_LINES
        lines = code_lines(function)
        if lines > most and f"{module.name}.{function.name}" not in LONG_FUNCTIONS:
            found.append(
                module.at(
                    function,
                    f"{function.name} has {lines} lines without its docstring, at most {most}",
                )
            )
    return found


def broad_excepts(module: Module) -> list[str]:
    broad = {"Exception", "BaseException"}
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(k is None or dotted(k) in broad for k in kinds):
                found.append(module.at(node, "name the exceptions that can happen here"))
        elif (
            isinstance(node, ast.Call)
            and dotted(node.func).endswith("suppress")
            and any(dotted(a) in broad for a in node.args)
        ):
            found.append(module.at(node, "suppress() of every exception hides failures"))
    return found


def prints(module: Module) -> list[str]:
    if module.room in ("cli", "report"):
        return []
    return [
        module.at(node, "print outside cli/ and report/: return the text instead")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and dotted(node.func) == "print"
    ]


def asserts(module: Module) -> list[str]:
    return [
        module.at(node, "assert vanishes under -O: raise an error of multilevel.errors")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert)
    ]


def library_rooms(module: Module) -> list[str]:
    found = []
    inner = module.name.partition(".")[2]
    for line, target in targets(module):
        for library, rooms in ALLOWED_ROOMS.items():
            uses = target == library or target.startswith(library + ".")
            allowed = any(inner == room or inner.startswith(room + ".") for room in rooms)
            if uses and not allowed:
                found.append(module.at(line, f"{library} belongs in {', '.join(rooms)} only"))
    return found


def docstrings(module: Module) -> list[str]:
    found = []
    if ast.get_docstring(module.tree) is None:
        found.append(module.at(1, "the module has no docstring"))
    for function, owner, depth in functions(module.tree):
        private = function.name.startswith("_") or (owner and owner.name.startswith("_"))
        if depth or private or decorators(function) & {"overload", "setter"}:
            continue
        if ast.get_docstring(function) is None:
            label = f"{owner.name}.{function.name}" if owner else function.name
            found.append(module.at(function, f"public function {label} has no docstring"))
    return found


def ignored_arguments(module: Module) -> list[str]:
    found = []
    for function, owner, depth in functions(module.tree):
        # A method marked @override has the signature of the library that calls it.
        if is_declaration(function, owner) or "override" in decorators(function):
            continue
        args = function.args
        names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
        names += [a.arg for a in (args.vararg, args.kwarg) if a is not None]
        dunder = function.name.startswith("__") and function.name != "__init__"
        private = depth > 0 or function.name.startswith("_")
        used = {
            node.id
            for statement in function.body
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        for name in names:
            if name in ("self", "cls") or name in used:
                continue
            # A callback or a dunder has a signature it did not choose.
            if dunder or (private and name.startswith("_")):
                continue
            found.append(module.at(function, f"{function.name} accepts {name!r} and ignores it"))
    return found


def random_state(module: Module) -> list[str]:
    found = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        last = name.rsplit(".", 1)[-1]
        if last == "default_rng" and not node.args and not node.keywords and module.rank < 9:
            found.append(module.at(node, "default_rng() below api: take a Generator argument"))
        elif name.startswith(("np.random.", "numpy.random.")) and last not in MODERN_RANDOM:
            found.append(module.at(node, f"{name} uses the global random state"))
    for line, target in targets(module):
        if target == "random" or target.startswith("random."):
            found.append(module.at(line, "the random module has global state"))
    return found


def silent_rooms(module: Module) -> list[str]:
    if module.rank >= RANKS["infer"]:
        return []
    found = [
        module.at(node, f"{dotted(node.func)}: rooms below infer/ return what they found")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and dotted(node.func).rsplit(".", 1)[-1] == "warn"
    ]
    found += [
        module.at(line, "logging: rooms below infer/ return what they found")
        for line, target in targets(module)
        if target.split(".")[0] == "logging"
    ]
    return found


def unfinished(module: Module) -> list[str]:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    return [
        module.at(number, f"unfinished: {line.strip()}")
        for number, line in enumerate(module.text.splitlines(), 1)
        if any(mark in line for mark in marks)
    ]


RULES = (
    room_ranks,
    sizes,
    broad_excepts,
    prints,
    asserts,
    library_rooms,
    docstrings,
    ignored_arguments,
    random_state,
    silent_rooms,
    unfinished,
)
