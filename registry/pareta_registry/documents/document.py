"""Document reader: parses YAML or JSON text into plain values, each with a line number.

Independent of catalogs. Refuses dangerous or ambiguous YAML: tags, anchors, duplicate keys, excessive size or depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from pareta_registry.errors import CatalogProblem

MAX_BYTES = 4 << 20
MAX_DEPTH = 32
_SCALARS = ("str", "int", "float", "bool", "null")
_TAG = "tag:yaml.org,2002:"

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Located:
    """A document's value and the line of each key. `problems` are the reasons that made the document unusable."""

    file: str
    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[CatalogProblem] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest parent in the text."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def problem(self, path: Path, message: str, remedy: str = "") -> CatalogProblem:
        return CatalogProblem(self.file, self.line(path), dotted(path), message, remedy)


def dotted(path: Path) -> str:
    """`("aliases", 0, "id")` as `aliases[0].id`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_documents(text: str, file: str) -> Iterator[Located]:
    """Every document in `text` (several by `---`, or the items of a top-level list)."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        yield _broken(file, 0, f"larger than {MAX_BYTES} bytes", "split the file")
        return
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
                located = Located(file)
                located.value = _Reader(loader, located).read(item, ())
                yield located
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        yield _broken(file, line, error.problem or "not YAML or JSON", "check quotes and indentation")
    except (yaml.YAMLError, ValueError) as error:
        yield _broken(file, 0, f"not YAML or JSON: {error}".splitlines()[0], "save the file as UTF-8 text")
    except RecursionError:
        yield _broken(file, 0, "nested too deep", f"use at most {MAX_DEPTH} levels")


def _broken(file: str, line: int, message: str, remedy: str) -> Located:
    return Located(file, problems=[CatalogProblem(file, line, "", message, remedy)])


class _Reader:
    """Converts nodes to values, and collects lines and problems."""

    def __init__(self, loader: yaml.SafeLoader, located: Located) -> None:
        self._loader = loader
        self._located = located
        self._seen: set[int] = set()

    def read(self, node: Any, path: Path) -> Any:
        self._located.lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > MAX_DEPTH:
            return self._refuse(path, "nested too deep", f"use at most {MAX_DEPTH} levels")
        if id(node) in self._seen:
            return self._refuse(path, "anchors and aliases are not allowed", "write the value out")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(path, "a key must be plain text", "quote the key")
                continue
            key = _joined(key_node.value)
            if key is None:
                self._refuse(path, "a key holds half a character", "write the key in UTF-8")
                continue
            here = (*path, key)
            if key in values:
                self._located.problems.append(
                    CatalogProblem(
                        self._located.file,
                        key_node.start_mark.line + 1,
                        dotted(here),
                        "written twice",
                        "keep one",
                    )
                )
                continue
            self._located.lines[here] = key_node.start_mark.line + 1
            values[key] = self.read(value_node, here)
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        kind = node.tag.removeprefix(_TAG)
        text = _joined(node.value)
        if text is None:
            return self._refuse(path, "the text holds half a character", "write the text in UTF-8")
        if kind in ("timestamp", "str"):
            return text
        if kind not in _SCALARS:
            return self._refuse(path, f"the tag {node.tag} is not allowed", "remove the tag")
        try:
            return self._loader.construct_object(node)
        except (ValueError, OverflowError):
            return self._refuse(path, f"not a readable {kind}", "correct the value")

    def _refuse(self, path: Path, message: str, remedy: str) -> None:
        self._located.problems.append(self._located.problem(path, message, remedy))


def _joined(text: str) -> str | None:
    """The text with JSON's pairs of escapes as characters; None for half of a pair."""
    try:
        return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None
