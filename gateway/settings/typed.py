"""One walk over the table, side by side with the types that it will have.

Only the types know which strings are secrets (they keep their reference) and which tables are of a `kind:` (they are read by
that kind's own `Config`). So the walk does both, interpolates all other strings, and names unknown keys while it knows what
the known ones are. What is wrong is reported and left out (`DROP`), so that everything else can still be checked.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from backends._secret import Secret
from backends.base import BackendConfig
from backends.embedding.base import EmbedderConfig
from gateway.settings.explain import problems
from gateway.settings.interpolate import REFERENCE, interpolate
from gateway.settings.mistakes import Severity, Where, did_you_mean
from gateway.settings.model import ValidatorSettings
from routers.base import RouterConfig
from wire.kinds import UnknownKind, kinds, load_kind

KINDED: Mapping[type[BaseModel], str] = {
    BackendConfig: "backends",
    EmbedderConfig: "backends.embedding",
    RouterConfig: "routers",
    ValidatorSettings: "gateway.validators",
}
"""Tables with a `kind:`, and the package in which the kind is looked up."""


class _Drop:
    pass


DROP = _Drop()


class Walk:
    """`table(Settings, data, ())` gives the data that pydantic reads. Collects what it left out in `dropped`."""

    def __init__(
        self,
        env: Mapping[str, str],
        folder: Path,
        say: Callable[[Where, str, Severity], None],
        unread: frozenset[Where] = frozenset(),
    ) -> None:
        """unread: what is wrong already as YAML, and said."""
        self._env = env
        self._folder = folder
        self._say = say
        self.dropped: set[Where] = set(unread)
        self._unread = unread

    def value(self, annotation: Any, data: Any, where: Where) -> Any:
        if where in self._unread:
            return DROP
        choices = _choices(annotation)
        if Secret in choices and isinstance(data, str):
            return self._secret(data, where)
        if ValidatorSettings in choices and isinstance(data, str):
            walked = self._kinded(ValidatorSettings, {"kind": data}, where, at=where)
            return walked if walked is DROP else data
        if isinstance(data, str):
            return self._text(data, where)
        if isinstance(data, dict):
            return self._dict(choices, data, where)
        if isinstance(data, list):
            return self._list(choices, data, where)
        return data

    def table(self, model: type[BaseModel], data: dict[str, Any], where: Where) -> dict[str, Any]:
        """`data` walked through by the fields of `model`."""
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        result: dict[str, Any] = {}
        for key, item in data.items():
            if key in fields:
                value = self.value(fields[key].annotation, item, (*where, key))
            elif model.model_config.get("extra") == "allow":
                value = self.value(Any, item, (*where, key))
            else:
                self._say((*where, key), f"unknown key {key!r}{did_you_mean(key, fields)}", "error")
                self.dropped.add((*where, key))
                continue
            if value is not DROP:
                result[key] = value
        return result

    def _dict(self, choices: list[Any], data: dict[str, Any], where: Where) -> Any:
        for choice in choices:
            if choice in KINDED:
                return self._kinded(choice, data, where)
            if isinstance(choice, type) and issubclass(choice, BaseModel):
                return self.table(choice, data, where)
        inner = next((get_args(choice)[1] for choice in choices if _is(choice, Mapping)), Any)
        walked = {key: self.value(inner, item, (*where, key)) for key, item in data.items()}
        return {key: value for key, value in walked.items() if value is not DROP}

    def _list(self, choices: list[Any], data: list[Any], where: Where) -> Any:
        inner = next((get_args(choice)[0] for choice in choices if _is(choice, Sequence)), Any)
        walked = [self.value(inner, item, (*where, index)) for index, item in enumerate(data)]
        # A list with a hole would count its items anew and name wrong lines: the whole list goes.
        return self._drop(where) if any(item is DROP for item in walked) else walked

    def _kinded(self, base: type[BaseModel], data: dict[str, Any], where: Where, at: Where | None = None) -> Any:
        config = self._config(base, data, at or (*where, "kind"))
        if config is None:
            self.dropped.add(where)
            return DROP if base is ValidatorSettings else base(kind=str(data.get("kind", "")))
        walked = self.table(config, data, where)
        try:
            instance = config.model_validate(walked)
        except ValidationError as exc:
            for place, message in problems(exc, walked, where, self.dropped):
                self._say(place, message, "error")
            self.dropped.add(where)
            return DROP if base is ValidatorSettings else base(kind=data["kind"])
        return walked if base is ValidatorSettings else instance

    def _config(self, base: type[BaseModel], data: dict[str, Any], where: Where) -> type[BaseModel] | None:
        """The `Config` of the kind that stands at `where`. The kind's module is imported here, and only here."""
        kind, known = data.get("kind"), kinds(KINDED[base])
        if not isinstance(kind, str):
            self._say(where, f"says which kind this is: one of {', '.join(known)}, or 'module:Class'", "error")
            return None
        try:
            config = load_kind(KINDED[base], kind).Config
        except UnknownKind as exc:
            near = did_you_mean(kind, known)
            self._say(where, str(exc) + (near if "did you mean" in near else ""), "error")
        except AttributeError:
            self._say(where, f"{kind!r} is no kind: its class has no Config", "error")
        except Exception as exc:  # a kind is somebody's module: whatever its import raises is about this line
            self._say(where, f"{kind!r} cannot be imported: {type(exc).__name__}", "error")
        else:
            wanted = BaseModel if base is ValidatorSettings else base
            if isinstance(config, type) and issubclass(config, wanted):
                return config
            self._say(where, f"{kind!r} is no kind: its Config is no {wanted.__name__}", "error")
        return None

    def _text(self, data: str, where: Where) -> Any:
        text, wrong = interpolate(data, self._env)
        for message in wrong:
            self._say(where, message, "error")
        return self._drop(where) if wrong else text

    def _secret(self, data: str, where: Where) -> Any:
        """A secret keeps its reference; a file is named in full, since nobody later knows the configuration's folder."""
        if REFERENCE.fullmatch(data):
            if data.startswith("${file:"):
                return f"${{file:{self._folder / data[7:-1]}}}"
            return data
        if "${" in data:
            self._say(where, "a secret is ${NAME}, ${file:PATH} or the value itself, nothing around it", "error")
            return self._drop(where)
        if data:
            self._say(where, "the secret itself stands in the file: write ${NAME} or ${file:PATH}", "warning")
        return data

    def _drop(self, where: Where) -> _Drop:
        self.dropped.add(where)
        return DROP


def _choices(annotation: Any) -> list[Any]:
    """What a value of this type may be: unions opened, `Annotated` taken off."""
    if get_origin(annotation) is Annotated:
        return _choices(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return [] if annotation is NoneType else [annotation]


def _is(choice: Any, wanted: type) -> bool:
    """A generic like dict[str, X] or tuple[X, ...] that says what is in it."""
    origin = get_origin(choice)
    return isinstance(origin, type) and issubclass(origin, wanted) and bool(get_args(choice))
