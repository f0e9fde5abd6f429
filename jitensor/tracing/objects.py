"""What a traced function sees of the user's objects: their methods as clones, their attributes as hidden arguments.

Owns `ObjectView`. A view stands for one object in one trace: `self.w` of an array or number is an input that is read
anew at each call, `self.step(x)` runs the clone of the method on the view, and `self.count += 1` is kept by the view
and given to the real object at the end of each call. Must not know what is recorded.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from jitensor.errors import TraceError, user_location

if TYPE_CHECKING:
    from jitensor.tracing.clone import World

_OWN = frozenset(
    [
        "__new__", "__init__", "__del__", "__class__", "__dict__", "__getattribute__", "__getattr__",
        "__setattr__", "__delattr__", "__init_subclass__", "__class_getitem__", "__subclasshook__",
        "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__eq__", "__hash__", "__ne__",
        "__repr__", "__str__", "__format__", "__sizeof__", "__dir__", "__set_name__", "__copy__", "__deepcopy__",
    ]
)  # fmt: skip
_MISSING = object()
_HEAP_TYPE = 1 << 9


class ObjectView:
    """Base of the views; a class of its own per class of objects has forwarders for the operators that it defines."""

    __slots__ = ("_real", "_source", "_spelled", "_world")

    def __init__(self, world: World, real: Any, source: str, spelled: str) -> None:
        object.__setattr__(self, "_world", world)
        object.__setattr__(self, "_real", real)
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "_spelled", spelled)

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return type(real_object(self))
        if name in _OWN or name == "__slots__":
            return getattr(real_object(self), name)
        return _read(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        world: World = object.__getattribute__(self, "_world")
        real = real_object(self)
        found = _in_class(type(real), name)
        if isinstance(found, property):
            if found.fset is None:
                setattr(real, name, value)  # raises Python's AttributeError
            world.wrap(found.fset)(self, value)
            return
        if _in_class(type(real), "__setattr__") is not object.__setattr__:
            setattr(real, name, value)
            return
        key = (id(real), name)
        if world.read.get(key, _MISSING) is value:
            return  # `self.w += x` assigns the array to its own place
        world.read[key] = value
        world.assigned[key] = (real, name, value)

    def __delattr__(self, name: str) -> None:
        raise TraceError(
            f"del {object.__getattribute__(self, '_spelled')}.{name}: not supported in a traced function",
            location=user_location(),
        )

    def __eq__(self, other: object) -> Any:
        real = real_object(self)
        if _in_class(type(real), "__eq__") is object.__eq__:
            return real is real_object(other)
        return object.__getattribute__(self, "_world").wrap(type(real).__eq__)(self, other)

    def __hash__(self) -> int:
        return hash(real_object(self))

    def __repr__(self) -> str:
        return repr(real_object(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return real_object(self).__reduce_ex__(protocol)


def real_object(value: Any) -> Any:
    """The object that a view stands for; other values as they are."""
    return object.__getattribute__(value, "_real") if issubclass(type(value), ObjectView) else value


def is_viewable(value: Any) -> bool:
    """Is it an instance of classes written in Python, with attributes found in the ordinary way?"""
    kind = type(value)
    if (
        issubclass(kind, (type, ObjectView, types.ModuleType, BaseException))
        or _in_class(kind, "__getattribute__") is not object.__getattribute__
    ):
        return False
    return all(c is object or c.__flags__ & _HEAP_TYPE for c in kind.__mro__) and not hasattr(kind, "__array_ufunc__")


def view(world: World, real: Any, source: str, spelled: str) -> ObjectView:
    """The view of an object, one per trace. source: how generated code names the object."""
    known = world.views.get(id(real))
    if known is None:
        known = world.views[id(real)] = _view_class(type(real))(world, real, source, spelled)
    return known


_classes: dict[type, type] = {}


def _view_class(kind: type) -> Any:
    made = _classes.get(kind)
    if made is None:
        names = {
            name for c in kind.__mro__ if c is not object for name, v in vars(c).items()
            if name.startswith("__") and name.endswith("__") and name not in _OWN and isinstance(v, types.FunctionType)
        }  # fmt: skip
        marks = {n: getattr(kind, n) for n in ("__dataclass_fields__", "__dataclass_params__") if hasattr(kind, n)}
        namespace = {"__slots__": (), **marks, **{n: _forward(n) for n in names}}
        made = type(f"View of {kind.__name__}", (ObjectView,), namespace)
        _classes[kind] = made
    return made


def _forward(name: str) -> Any:
    return lambda self, *args, **options: _read(self, name)(*args, **options)


def _in_class(kind: type, name: str) -> Any:
    for c in kind.__mro__:
        if name in c.__dict__:
            return c.__dict__[name]
    return _MISSING


def _read(self: ObjectView, name: str) -> Any:
    world: World = object.__getattribute__(self, "_world")
    real = object.__getattribute__(self, "_real")
    key = (id(real), name)
    if key in world.read:
        return world.read[key]
    found = _in_class(type(real), name)
    held = name in getattr(real, "__dict__", ())
    if isinstance(found, property) and found.fget is not None:
        return world.wrap(found.fget)(self)
    if not held and isinstance(found, types.FunctionType):
        return types.MethodType(world.wrap(found), self)
    if not held and isinstance(found, staticmethod):
        return world.wrap(found.__func__)
    if not held and isinstance(found, classmethod):
        return types.MethodType(world.wrap(found.__func__), type(real))
    if not held and found is not _MISSING and not isinstance(found, types.MemberDescriptorType):
        bind = getattr(type(found), "__get__", None)
        if bind is not None:
            bound = bind(found, self, type(real)) if hasattr(found, "__wrapped__") else getattr(real, name)
            return world.wrap(bound)
    value = getattr(real, name)
    if not held and found is _MISSING:
        return world.wrap(value)  # the class's own __getattr__ made it
    source, spelled = object.__getattribute__(self, "_source"), object.__getattribute__(self, "_spelled")
    return world.variable(key, f"{spelled}.{name}", f"{source}.{name}", value)
