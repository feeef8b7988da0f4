"""Local references of a JSON Schema: `#` and `#/a/b` (RFC 6901)."""

from collections.abc import Mapping
from typing import Any


def follow(reference: str, root: Any, otherwise: Any) -> Any:
    """What `reference`, which is "#" or begins with "#/", means within `root`; `otherwise` when it leads nowhere."""
    here = root
    for part in reference[2:].split("/") if len(reference) > 1 else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(here, Mapping) and name in here:
            here = here[name]
        elif isinstance(here, list) and name.isdigit() and int(name) < len(here):
            here = here[int(name)]
        else:
            return otherwise
    return here
