"""YAML text to plain values, and the line of every one of them.

YAML 1.1 reads `no`, `on` and `yes` as booleans, `1:30` as 90, `010` as 8 and `2024-01-01` as a date; YAML 1.2 does not, and
neither does this reader: its scalars are those of the 1.2 core schema. So `choice: [yes, no]` is what it looks like, and
`cloud: yes` still works where a boolean is wanted. Keys are always text. Anchors and `<<` work; tags do not.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from msgspec import Struct

from gateway.settings.mistakes import Mistake, Place, Where, dotted

MOST_NODES = 200_000
"""Values in one file, aliases counted as often as they are used: an alias bomb ends here."""

_TAG = "tag:yaml.org,2002:"
_FIRST = list("0123456789+-.tTfFnN~")


class _Loader(yaml.SafeLoader):
    """SafeLoader's scanner and composer with the implicit types of the YAML 1.2 core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _resolve(tag: str, pattern: str, first: list[str]) -> None:
    yaml.add_implicit_resolver(_TAG + tag, re.compile(pattern), first, Loader=_Loader)


_resolve("null", r"^(?:null|Null|NULL|~|)$", [*"nN~", ""])
_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF"))
_resolve("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789"))
_resolve("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789"))
_resolve("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+."))
_resolve("merge", r"^<<$", ["<"])


class Document(Struct, frozen=True):
    """One YAML text, read."""

    table: dict[str, Any]
    """Empty when the text is no YAML, or no table."""
    places: dict[Where, Place]
    mistakes: list[Mistake]
    unread: frozenset[Where]
    """What stands in `table` as None because it could not be read; there is a mistake for each."""


def read_document(text: str, file: str) -> Document:
    """Never raises: what is wrong with a text is in `mistakes`."""
    reader = _Reader(file)
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = {} if node is None else reader.value(node, (), frozenset())
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        message = ", ".join(str(part) for part in (exc.context, exc.problem) if part)
        return _nothing(Mistake(file, mark.line + 1 if mark else 0, "", f"no YAML: {message}"))
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        return _nothing(Mistake(file, line, "", "no YAML: a control character stands here"))
    except RecursionError:
        return _nothing(Mistake(file, 0, "", "no YAML that can be read: nested too deeply"))
    except _TooLarge:
        return _nothing(Mistake(file, 0, "", f"more than {MOST_NODES:,} values (aliases counted as often as used)"))
    if not isinstance(value, dict):
        reader.mistakes.append(Mistake(file, 1, "", "the file must be a table: `backends:`, `router:`, `routes:` ..."))
        value = {}
    return Document(value, reader.places, reader.mistakes, frozenset(reader.unread))


def _nothing(mistake: Mistake) -> Document:
    return Document({}, {}, [mistake], frozenset())


class _TooLarge(Exception):
    pass


class _Reader:
    """Turns composed nodes into values. Collects places and mistakes on the way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Where, Place] = {}
        self.mistakes: list[Mistake] = []
        self.unread: set[Where] = set()
        self._count = 0

    def value(self, node: yaml.Node, where: Where, above: frozenset[int]) -> Any:
        self._count += 1
        if self._count > MOST_NODES:
            raise _TooLarge
        if id(node) in above:
            return self._unread(node, where, "an alias may not contain itself")
        above |= {id(node)}
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return {
                key: self._child(child, (*where, key), key_node, above)
                for key, key_node, child in self._items(node, where)
            }
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._child(child, (*where, index), child, above) for index, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where)
        return self._unread(node, where, f"the tag {node.tag.replace(_TAG, '!!')} is not known here")

    def _child(self, node: yaml.Node, where: Where, marker: yaml.Node, above: frozenset[int]) -> Any:
        # A table stands where its key stands; a scalar where it stands itself (it may be on a line below its key).
        stands = (
            node if isinstance(node, yaml.ScalarNode) and node.start_mark.line >= marker.start_mark.line else marker
        )
        self.places[where] = self._place(stands)
        return self.value(node, where, above)

    def _items(self, node: yaml.MappingNode, where: Where) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """The pairs of a table: its own, then those merged in with `<<` that it does not have itself."""
        own: dict[str, yaml.Node] = {}
        merged: list[yaml.Node] = []
        for key_node, child in node.value:
            if key_node.tag == _TAG + "merge":
                merged += child.value if isinstance(child, yaml.SequenceNode) else [child]
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, where, "a key must be a word, not a table or a list")
                continue
            key = str(key_node.value)
            if key in own:
                first = own[key].start_mark.line + 1
                self._wrong(key_node, (*where, key), f"the key {key!r} is written twice, first on line {first}")
                continue
            own[key] = key_node
            yield key, key_node, child
        for other in merged:
            if not isinstance(other, yaml.MappingNode) or other is node:
                self._wrong(other, where, "`<<` takes a table or a list of tables")
                continue
            for key_node, child in other.value:
                if isinstance(key_node, yaml.ScalarNode) and key_node.value not in own:
                    own[key_node.value] = key_node
                    yield str(key_node.value), key_node, child

    def _scalar(self, node: yaml.ScalarNode, where: Where) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float" as kind:
                return self._number(node, where, kind, text)
            case _:
                return self._unread(node, where, f"the tag {node.tag.replace(_TAG, '!!')} is not known here")

    def _number(self, node: yaml.ScalarNode, where: Where, kind: str, text: str) -> Any:
        """A number that JSON has too: finite, and an integer of at most 64 bits."""
        if kind == "int" and len(text) <= 20:
            base = {"0x": 16, "0o": 8}.get(text[:2], 10)
            number = int(text, base)
            if -(2**63) <= number < 2**63:
                return number
        elif kind == "float" and text.lstrip("+-").lower() not in (".inf", ".nan"):
            fraction = float(text)
            if abs(fraction) != float("inf"):
                return fraction
        return self._unread(node, where, "a number must be finite, and an integer must fit 64 bits")

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1)

    def _unread(self, node: yaml.Node, where: Where, message: str) -> None:
        self.unread.add(where)
        self._wrong(node, where, message)

    def _wrong(self, node: yaml.Node, where: Where, message: str) -> None:
        place = self._place(node)
        self.mistakes.append(Mistake(place.file, place.line, dotted(where), message))
