"""Declare settings, read them from plain values, and write them as plain values.

A section of the configuration is a subclass of `Section`. Each annotated attribute is a setting
(declared with `setting`) or a nested section (`section`). The type of a setting contains the
function that reads its value (`ReadBy`).

A library such as pydantic could replace this module, but its models take 12 MB, a third of the
memory that the programs of the appliance share (decision 042).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import FunctionType, NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from entrepot.config.errors import Unreadable

Place = tuple[str, ...]
"""A `Place` is the path of a value in a section: the names of nested attributes."""

_S = TypeVar("_S", bound="Section")

_EXAMPLE: Final = "compare config/example.yml"


@dataclass(frozen=True, slots=True)
class ReadBy:
    """A `ReadBy` in an `Annotated` type has the function that reads a setting's value.

    The function raises Unreadable if the value is invalid.
    """

    read: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class WrittenBy:
    """A `WrittenBy` in an `Annotated` type has the function that converts a value to a plain value.

    The function of the `ReadBy` in the same type can read this plain value.
    """

    write: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Default:
    """A `Default` is the declaration of one attribute of a section.

    `value` is the default as an operator would write it, or a function that returns the default.
    Such a function can have a parameter, a map with the values of the earlier attributes. If
    `is_internal` is true, `as_tree` omits the attribute.
    """

    value: object
    meaning: str = ""
    env: str = ""
    shown: str | None = None
    is_secret: bool = False
    is_internal: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A `Field` is one attribute of a section. `annotation` is its type without `Annotated`."""

    name: str
    annotation: Any
    metadata: tuple[object, ...]
    default: Default


@dataclass(frozen=True, slots=True)
class InvalidValue:
    """An `InvalidValue` is the error in one value, at its place in the section."""

    place: Place
    error: Unreadable


class InvalidValues(ValueError):  # noqa: N818 - the name states the fact
    """Some values of a section are invalid."""

    def __init__(self, found: list[InvalidValue]) -> None:
        super().__init__("; ".join(f"{'.'.join(each.place)}: {each.error}" for each in found))
        self.found = found


def setting(
    default: object, meaning: str, *, env: str = "", shown: str | None = None, secret: bool = False
) -> Any:  # noqa: ANN401 - the annotation of the attribute has the type
    """Declare a setting. *default* is the default as an operator would write it.

    *env* is the name of a variable that takes precedence over the variable derived from the key
    (REGISTRY_A_B_C for a.b.c). If the default depends on the environment, *shown* is the text that
    describes it in the documentation. If *secret* is true, messages do not show the value.
    """
    return Default(default, meaning, env, shown, is_secret=secret)


def section(factory: Callable[[], object]) -> Any:  # noqa: ANN401 - as for `setting`
    """Declare a nested section; *factory* returns its default."""
    return Default(factory)


def internal(default: object) -> Any:  # noqa: ANN401 - as for `setting`
    """Declare an attribute that operators cannot set, and that `as_tree` omits."""
    return Default(default, is_internal=True)


class Section:
    """A `Section` is the base class of the sections of the configuration; objects are immutable.

    The constructor reads all given values. For attributes that are not given, it reads the default.
    """

    def __init__(self, **given: object) -> None:
        """Raises: InvalidValues with every value that cannot be read."""
        self.__dict__.update(_read(type(self), given))

    @classmethod
    def from_tree(cls, tree: Mapping[str, object]) -> Self:
        """Read a section from plain values, as `as_tree` returns them. Raises: InvalidValues."""
        return _section(cls, tree)

    def as_tree(self) -> dict[str, Any]:
        """Return all values in types of JSON: maps, lists, texts, numbers, Booleans and None."""
        return {
            each.name: _written(each, getattr(self, each.name))
            for each in fields_of(type(self))
            if not each.default.is_internal
        }

    def values(self) -> dict[str, Any]:
        """Return the values of all attributes by name. Each nested section becomes a map too."""
        return {name: _as_map(each) for name, each in self.__dict__.items()}

    def changed(self, **values: object) -> Self:
        """Return a copy in which *values* replace attributes.

        The values are not read, so they must have their final types.
        """
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, **values)
        return copy

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        shown = (
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields_of(type(self))
            if not each.default.is_secret
        )
        return f"{type(self).__name__}({', '.join(shown)})"


_FIELDS: dict[type[Section], tuple[Field, ...]] = {}


def fields_of(model: type[Section]) -> tuple[Field, ...]:
    """Return the attributes of a section, in the order in which the class declares them."""
    if model not in _FIELDS:
        hints = get_type_hints(model, include_extras=True)
        _FIELDS[model] = tuple(
            _field(name, hint, getattr(model, name)) for name, hint in hints.items()
        )
    return _FIELDS[model]


def _field(name: str, hint: object, declared: object) -> Field:
    default = declared if isinstance(declared, Default) else Default(declared)
    if get_origin(hint) is Annotated:
        return Field(name, hint.__origin__, hint.__metadata__, default)  # type: ignore[attr-defined]
    return Field(name, hint, (), default)


# ---- reading


def _read(model: type[Section], given: Mapping[str, object]) -> dict[str, Any]:
    """Return the values of all attributes. Raises: InvalidValues."""
    known = fields_of(model)
    names = {each.name for each in known}
    found = [_unknown(name) for name in given if name not in names]
    values = dict[str, Any]()
    for each in known:
        try:
            if each.name in given:
                values[each.name] = _value(each, given[each.name])
            # If a value is invalid, a default that depends on it would cause a second error.
            elif not found or not _takes_values(each.default.value):
                values[each.name] = _value(each, _default(each.default.value, values))
        except InvalidValues as error:
            found += [InvalidValue((each.name, *one.place), one.error) for one in error.found]
        except Unreadable as error:
            found.append(InvalidValue((each.name,), error))
    if found:
        raise InvalidValues(found)
    return values


def _default(value: object, before: Mapping[str, Any]) -> object:
    if not callable(value):
        return value
    return value(before) if _takes_values(value) else value()


def _takes_values(default: object) -> bool:
    return isinstance(default, FunctionType) and default.__code__.co_argcount > 0


def _value(each: Field, given: object) -> object:
    """Read the value of one attribute. Raises: Unreadable, InvalidValues."""
    reader = next((one.read for one in each.metadata if isinstance(one, ReadBy)), None)
    return _of_type(each.annotation, given) if reader is None else reader(given)


def _of_type(kind: object, given: object) -> object:
    """Read a value whose type has no `ReadBy`, or has it only in the type arguments."""
    if get_origin(kind) in {Union, UnionType}:
        if given is None and NoneType in get_args(kind):
            return None
        kind = next(each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is Annotated:
        return _value(_field("", kind, None), given)
    if get_origin(kind) is dict:
        of_key, of_value = get_args(kind)
        return dict(_entries(of_key, of_value, given))
    if isinstance(kind, type) and issubclass(kind, Section):
        return _section(kind, given)
    if kind is Path:
        return Path(str(given))
    return tuple(given) if get_origin(kind) is tuple else given  # type: ignore[arg-type]


def _entries(key: object, value: object, given: object) -> Iterator[tuple[Any, Any]]:
    """Read a map, with *key* as the type of its keys and *value* as that of its values.

    Raises: Unreadable if *given* is not a map; InvalidValues if an entry is invalid.
    """
    if not isinstance(given, Mapping):
        raise Unreadable("not a map", _EXAMPLE)
    found = list[InvalidValue]()
    for name, one in given.items():
        try:
            yield _of_type(key, name), _of_type(value, one)
        except InvalidValues as error:
            found += [InvalidValue((str(name), *each.place), each.error) for each in error.found]
        except Unreadable as error:
            found.append(InvalidValue((str(name),), error))
    if found:
        raise InvalidValues(found)


def _section(model: type[_S], given: object) -> _S:
    if isinstance(given, model):
        return given
    if not isinstance(given, Mapping):
        raise Unreadable("not a map", _EXAMPLE)
    return model(**given)


def _unknown(name: str) -> InvalidValue:
    return InvalidValue((name,), Unreadable("no such setting", _EXAMPLE))


# ---- writing


def _as_map(value: object) -> object:
    """Return *value* with each section in it replaced by a map."""
    if isinstance(value, Section):
        return value.values()
    return {key: _as_map(each) for key, each in value.items()} if isinstance(value, dict) else value


def _written(each: Field, value: object) -> object:
    writer = next((one.write for one in each.metadata if isinstance(one, WrittenBy)), None)
    return _plain(value if writer is None else writer(value))


def _plain(value: object) -> object:
    """Return a value in types of JSON."""
    if isinstance(value, Section):
        return value.as_tree()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    plain = value.value if isinstance(value, Enum) else value
    return str(plain) if isinstance(plain, Path) else plain
