"""The order of rooms: a module imports only from modules above it; and what `import jitensor` may not import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jitensor

PACKAGE = Path(jitensor.__file__).parent

# In order of dependence: a room may import from itself and from rooms above it. Names of one line stand side by side:
# they may import each other.
ROOMS = [
    ["errors", "records"],
    ["settings"],
    ["events"],
    ["ir"],
    ["scalar"],
    ["ops"],
    ["passes"],
    ["autodiff"],
    ["codegen"],
    ["runtime"],
    ["pipeline"],
    ["tracing"],
    ["tensor"],
    ["quiet"],
    ["recording"],
    ["nest"],
    ["explain"],
    ["jit_entry"],
    ["jit_door"],
    ["api"],
    ["variable", "module"],
    ["backward"],
    ["given_gradients"],
    ["execution"],
    ["calling"],
    ["runners"],
    ["concrete"],
    ["binding"],
    ["retracing"],
    ["tape"],
    ["function_entry"],
    ["function_door"],
    ["functions"],
    ["diagnostics"],
    ["api.names", "numpy"],
    [""],
    ["cli", "__main__"],
]
# What runtime may know of codegen, although the order would allow all of it: programs and kernels as data, and the
# layouts of a native entry's context, of the driver's plan and pool, and of the store of array memory.
SHARED = {"codegen.program", "codegen.kernel", "codegen.emit_entry", "codegen.emit_pool"}
SHARED |= {"codegen.emit_store", "codegen.work"}
# What makes `import jitensor` slow is imported where it is used. A command is itself imported only when it runs.
LAZY = {"numba", "llvmlite", "scipy", "rich", "matplotlib", "sklearn", "PIL", "mpmath", "jax", "torch"}


def modules() -> dict[str, Path]:
    """Return the path of every module, by its name below `jitensor`; the package itself is the empty name."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = modules()


def room(module: str) -> str:
    """Return the most specific room that `module` belongs to."""
    fits = [name for row in ROOMS for name in row if module == name or (name and module.startswith(name + "."))]
    assert fits, f"jitensor.{module} has no place in ROOMS"
    return max(fits, key=len)


def rank(name: str) -> int:
    return next(i for i, row in enumerate(ROOMS) if name in row)


def imports(module: str, path: Path) -> list[tuple[str, int, bool]]:
    """Return (imported jitensor module, line, whether at the module's top level) for each import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        for name in imported_names(node, module, path):
            found.append((name, node.lineno, id(node) not in inside))
    return found


def imported_names(node: ast.AST, module: str, path: Path) -> list[str]:
    """Return the full names that an import statement imports, modules where they are modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = ["jitensor", *[part for part in module.split(".") if part]]
        package = package if path.name == "__init__.py" else package[:-1]
        base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
    names = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name.removeprefix("jitensor.") in MODULES else base for name in names]


def below(name: str) -> str | None:
    """Return the name below `jitensor`, or None for another package's module."""
    return name.partition(".")[2] if name.split(".")[0] == "jitensor" else None


@pytest.mark.parametrize("module", MODULES, ids=lambda name: name or "__init__")
def test_imports_go_up(module):
    own = room(module)
    for name, line, _ in imports(module, MODULES[module]):
        imported = below(name)
        if imported is None:
            continue
        theirs = room(imported)
        where = f"{MODULES[module]}:{line}: {own or 'jitensor'} imports {theirs or 'jitensor'}"
        assert rank(theirs) <= rank(own), f"{where}, which is below it in ROOMS"
        if (own, theirs) == ("runtime", "codegen"):
            assert imported in SHARED, f"{where}; they share only {', '.join(sorted(SHARED))}"


@pytest.mark.parametrize("module", MODULES, ids=lambda name: name or "__init__")
def test_no_import_of_jitensor_hides_in_a_function(module):
    if room(module) in ("cli", "__main__"):
        return
    hidden = [
        (name, line) for name, line, top in imports(module, MODULES[module]) if below(name) is not None and not top
    ]
    assert not hidden, f"{MODULES[module]}: {hidden}"


def test_slow_packages_are_imported_where_they_are_used():
    early = [
        f"{MODULES[module]}:{line} {name}"
        for module in MODULES
        for name, line, top in imports(module, MODULES[module])
        if room(module) != "cli" and top and name.split(".")[0] in LAZY
    ]
    assert not early, "\n".join(["", *early])


def test_import_jitensor_imports_nothing_slow():
    code = "import sys, jitensor; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert LAZY.isdisjoint(done.stdout.split())


def test_the_rules_are_able_to_fail(tmp_path, monkeypatch):
    path = tmp_path / "ir.py"
    path.write_text("from jitensor import runtime\nfrom . import functions\ndef f():\n    import jitensor.errors\n")
    monkeypatch.setitem(MODULES, "functions", path)
    assert imports("ir", path) == [
        ("jitensor.runtime", 1, True),
        ("jitensor.functions", 2, True),
        ("jitensor.errors", 4, False),
    ]
