"""`${NAME}` and `${NAME:-default}` in strings. Pure: the environment is handed in.

As in a shell, `:-` also replaces a variable that is set but empty. `$$` is a dollar sign; a lone `$` stays what it is, so
`^[a-z]+$` and `#/$defs/x` need no escape.
"""

import re
from collections.abc import Mapping

REFERENCE = re.compile(r"\$\{(?:file:[^{}]+|[A-Za-z_][A-Za-z0-9_]*)\}")
"""The whole of a secret that is looked up when it is used."""

_TOKEN = re.compile(r"\$\$|\$\{([^}]*)(\})?")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


def interpolate(text: str, env: Mapping[str, str]) -> tuple[str, list[str]]:
    """`text` with its references replaced, and what is wrong with them; wrong ones are replaced by nothing."""
    wrong: list[str] = []

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        inside = _INSIDE.fullmatch(found[1])
        if found[2] is None:
            wrong.append("`${` without its `}` (`$$` is a dollar sign)")
        elif found[1].startswith("file:"):
            wrong.append("${file:...} works only where a secret is expected")
        elif inside is None:
            wrong.append("between `${` and `}` stands the name of a variable, or NAME:-default")
        elif env.get(inside["name"]) or (inside["name"] in env and inside["default"] is None):
            return env[inside["name"]]
        elif inside["default"] is not None:
            return inside["default"]
        else:
            wrong.append(f"the variable {inside['name']} is not set; set it or write ${{{inside['name']}:-default}}")
        return ""

    return _TOKEN.sub(replace, text), wrong


def escape(text: str) -> str:
    """The string that interpolates to `text`."""
    return text.replace("$", "$$")
