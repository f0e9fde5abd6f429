"""The clone of a function: the same code over globals, closure cells and builtins that the door answers for.

Owns `World`, what one trace sees of the user's program: which names are NumPy's, which functions are cloned too, and
which variables became hidden arguments. `jt.jit` therefore needs no source text, and NumPy is never patched: the code
object runs over a dict subclass, whose `__getitem__` CPython honours for global names. Writes reach the real globals
and cells. Must not know what is recorded.
"""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.errors import TraceError
from jitensor.tracing.context import TraceContext
from jitensor.tracing.objects import is_viewable, view
from jitensor.tracing.signature import is_data

_FOREIGN = frozenset({"numpy", "scipy", "jitensor", "numba", "llvmlite"}) | sys.stdlib_module_names
_MISSING = object()


class Variable:
    """A global, closure variable or module attribute that the trace read. `source` fetches it again at a later call."""

    __slots__ = ("name", "source", "value")

    def __init__(self, name: str, source: str, value: Any) -> None:
        self.name = name
        self.source = source
        self.value = value


class World:
    """What one trace sees. `substitute(value)` gives the door's version of a NumPy name or builtin, or the value
    itself; `hidden(variable)` makes a variable's data an input."""

    def __init__(
        self,
        context: TraceContext,
        substitute: Callable[[Any], Any],
        hidden: Callable[[Variable], Any],
        replaced_builtins: dict[str, Any],
    ) -> None:
        self.context = context
        self.substitute = substitute
        self.hidden = hidden
        self.builtins = {**vars(builtins), **replaced_builtins, "__import__": self.import_}
        self.read: dict[tuple[int, str], Any] = {}
        self.namespaces: dict[int, Namespace] = {}
        self.functions: dict[int, tuple[Any, Any]] = {}
        self.cells: list[tuple[Any, Any, Any]] = []  # (real, clone, what it held first)
        self.modules: dict[int, Any] = {}
        self.containers: list[tuple[str, Any, list[Any]]] = []  # (name, what the function sees, its items at first)
        self.views: dict[int, Any] = {}
        self.assigned: dict[tuple[int, str], tuple[Any, str, Any]] = {}  # attributes that the function set

    def import_(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        return self.wrap(__import__(name, globals, locals, fromlist, level))

    def wrap(self, value: Any) -> Any:
        """A value as the traced function sees it."""
        replaced = self.substitute(value)
        if replaced is not value:
            return replaced
        if isinstance(value, types.FunctionType):
            return self.function(value) if _is_users(value) else value
        if isinstance(value, types.MethodType) and isinstance(value.__func__, types.FunctionType):
            return types.MethodType(self.wrap(value.__func__), self.seen(value.__self__))
        if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] not in _FOREIGN:
            if id(value) not in self.modules:
                self.modules[id(value)] = ModuleView(self, value)
            return self.modules[id(value)]
        return value

    def seen(self, value: Any, source: str = "", spelled: str = "") -> Any:
        """An object as the traced function sees it; `source`: how generated code names it."""
        wrapped = self.wrap(value)
        if wrapped is value and _is_users(type(value)) and is_viewable(value):
            return view(self, value, source or self.context.constant_name(value), spelled or type(value).__name__)
        return wrapped

    def function(self, function: types.FunctionType) -> Any:
        """The clone of a plain function, one per trace."""
        known = self.functions.get(id(function))
        if known is not None:
            return known[1]
        cells = tuple([types.CellType() for _ in function.__closure__ or ()])
        namespace = self.namespace(function.__globals__)
        clone = types.FunctionType(function.__code__.replace(), namespace, function.__name__, None, cells or None)
        self.functions[id(function)] = (function, clone)
        clone.__dict__.update(function.__dict__)
        clone.__doc__, clone.__module__, clone.__qualname__ = (
            function.__doc__,
            function.__module__,
            function.__qualname__,
        )
        clone.__defaults__ = tuple(map(self.wrap, function.__defaults__)) if function.__defaults__ else None
        if function.__kwdefaults__:
            clone.__kwdefaults__ = {name: self.wrap(v) for name, v in function.__kwdefaults__.items()}
        for name, real, cell in zip(function.__code__.co_freevars, function.__closure__ or (), cells, strict=True):
            self._fill(name, real, cell)
        return clone

    def namespace(self, globals: dict[str, Any]) -> Any:
        if isinstance(globals, Namespace):
            return globals
        if id(globals) not in self.namespaces:
            self.namespaces[id(globals)] = Namespace(self, globals)
        return self.namespaces[id(globals)]

    def _fill(self, name: str, real: Any, cell: Any) -> None:
        try:
            value = real.cell_contents
        except ValueError:  # empty: a name that is bound later, or never
            self.cells.append((real, cell, _MISSING))
            return
        holder = self.context.constant_name(real)
        cell.cell_contents = self.variable((id(real), name), name, f"{holder}.cell_contents", value)
        self.cells.append((real, cell, cell.cell_contents))

    def variable(self, where: tuple[int, str], name: str, source: str, value: Any) -> Any:
        """The door's version of a variable; what the trace relied on is guarded, data becomes an input."""
        if where in self.read:
            return self.read[where]
        wrapped = self.wrap(value)
        if wrapped is value and is_data(value) and not isinstance(value, np.dtype):
            wrapped = self.hidden(Variable(name, source, value))
        else:
            held = self.context.constant_name(value)
            self.context.guard(f"{source} is {held}", f"`{name}` is part of the trace")
            if wrapped is value and type(value) in (list, tuple, dict) and _holds_objects(value):
                wrapped = self.container(value, held, name)
            elif wrapped is value:
                wrapped = self.seen(value, held, name)
        self.read[where] = wrapped
        return wrapped

    def container(self, value: Any, source: str, name: str) -> Any:
        """A list, tuple or dict that holds objects: one of their views, with every item guarded."""
        self.context.guard(f"len({source}) == {len(value)}", f"the length of `{name}` is part of the trace")
        pairs = value.items() if type(value) is dict else enumerate(value)
        items = {
            k: self.variable((id(value), repr(k)), f"{name}[{k!r}]", f"{source}[{self._key_source(k)}]", item)
            for k, item in pairs
        }
        made = items if type(value) is dict else type(value)(items.values())
        self.containers.append((name, made, list(items.values())))
        return made

    def _key_source(self, key: Any) -> str:
        return repr(key) if type(key) in (int, str) else self.context.constant_name(key)

    def refuse_changed_containers(self) -> None:
        for name, made, before in self.containers:
            now = list(made.values()) if type(made) is dict else list(made)
            if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
                raise TraceError(f"the function changes `{name}`, which holds objects; return a new container.")

    def write_back(self) -> None:
        """Globals and nonlocals that the function assigned reach the real ones."""
        for namespace in self.namespaces.values():
            namespace.flush()
        for real, cell, before in self.cells:
            try:
                now = cell.cell_contents
            except ValueError:
                continue
            if now is not before:
                real.cell_contents = now


def _holds_objects(container: Any) -> bool:
    items = container.values() if type(container) is dict else container
    return any(_is_users(type(i)) and is_viewable(i) for i in items)


def _is_users(function: Any) -> bool:
    return (function.__module__ or "").partition(".")[0] not in _FOREIGN or function.__module__ == "__main__"


class Namespace(dict):
    """The globals of a clone. Reading goes through the door; an assignment lands in the dict itself and is passed
    on."""

    def __init__(self, world: World, real: dict[str, Any]) -> None:
        super().__init__(__builtins__=world.builtins, __name__=real.get("__name__"))
        self.world = world
        self.real = real
        self.holder = world.context.constant_name(real)

    def __getitem__(self, name: str) -> Any:
        if len(self) > 2:
            self.flush()
        if name not in self.real:
            raise KeyError(name)
        value = self.real[name]
        where = (id(self.real), name)
        known = self.world.read.get(where, _MISSING)
        if known is not _MISSING:
            return known
        return self.world.variable(where, name, f"{self.holder}[{name!r}]", value)

    def flush(self) -> None:
        for name in [n for n in self if n not in ("__builtins__", "__name__")]:
            value = self.real[name] = dict.pop(self, name)
            self.world.read[id(self.real), name] = value


class ModuleView:
    """A module of the user's, whose functions come as clones and whose data are hidden arguments."""

    def __init__(self, world: World, module: types.ModuleType) -> None:
        object.__setattr__(self, "_world", world)
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_holder", world.context.constant_name(vars(module)))

    def __getattr__(self, name: str) -> Any:
        world, module, holder = self._world, self._module, self._holder
        value = getattr(module, name)
        if name not in vars(module):  # a module's own __getattr__
            return world.wrap(value)
        return world.variable((id(vars(module)), name), f"{module.__name__}.{name}", f"{holder}[{name!r}]", value)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)
        self._world.read[id(vars(self._module)), name] = value
