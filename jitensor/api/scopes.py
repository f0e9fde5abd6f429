"""Scopes, devices and global switches. Most have no effect on what is computed; they are here so that code written for
TensorFlow runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from jitensor.api.convert import convert_to_tensor
from jitensor.api.effects import suspended
from jitensor.recording import known_elements
from jitensor.tensor import Stateful, Tensor, active


def executing_eagerly() -> bool:
    """False while a function is traced."""
    return active.context is None


def inside_function() -> bool:
    return active.context is not None


init_scope = suspended


class name_scope:
    """Prefixes the names of Variables made inside. Nodes are known by the user's lines instead."""

    def __init__(self, name: str, default_name: str | None = None) -> None:
        if not isinstance(name, str):
            raise ValueError(f"name_scope: the name must be a string, got {name!r}")
        self.name = name

    def __enter__(self) -> str:
        self.before = active.scopes
        absolute = self.name.endswith("/")  # a scope that was entered before
        active.scopes = (self.name.rstrip("/"),) if absolute else (*self.before, self.name)
        if not self.name:
            active.scopes = ()
        return "".join(f"{part}/" for part in active.scopes)

    def __exit__(self, *exc: object) -> None:
        active.scopes = self.before


@contextlib.contextmanager
def device(device_name: Any) -> Iterator[None]:
    """Names the CPU, on which everything runs. Raises ValueError for another device or a malformed name."""
    text = "" if device_name is None else str(device_name).lower()
    kind = text.rpartition("device:")[2].lstrip("/")
    if kind and kind.split(":")[0] not in ("cpu", "job", ""):
        raise ValueError(f"device: {device_name!r} is not available; jitensor has /CPU:0")
    yield


class control_dependencies:
    """Has no effect: effects always run in program order."""

    def __init__(self, control_inputs: Any = ()) -> None:
        self.control_inputs = control_inputs

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None


def group(*inputs: Any, **kwargs: Any) -> None:
    """Has no effect: effects always run in program order. Mirrors tf.group."""
    return


def no_op(name: str | None = None) -> None:
    return None


class PhysicalDevice(NamedTuple):
    name: str
    device_type: str


_CPU = PhysicalDevice("/physical_device:CPU:0", "CPU")


def list_physical_devices(device_type: str | None = None) -> list[PhysicalDevice]:
    """The devices that work can run on. Mirrors tf.config.list_physical_devices."""
    return [_CPU] if device_type in (None, "CPU") else []


def list_logical_devices(device_type: str | None = None) -> list[PhysicalDevice]:
    return [PhysicalDevice("/device:CPU:0", "CPU")] if device_type in (None, "CPU") else []


def is_tensor(x: Any) -> bool:
    """True for tensors and Variables. Mirrors tf.is_tensor."""
    return isinstance(x, (Tensor, Stateful))


def get_static_value(tensor: Any, partial: bool = False) -> Any:
    """The elements as an ndarray where they are known without running, else None. Mirrors tf.get_static_value."""
    known = known_elements(convert_to_tensor(tensor))
    if known is None or (known.dtype == object and any(n is None for n in known.flat)):
        return None
    return known
