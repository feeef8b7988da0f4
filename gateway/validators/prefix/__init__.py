"""Can what has come so far of a JSON document still become one that fits? Pure.

A package, and so no validator's `kind`: it is what the line looks at an answer with while the answer still grows.
"""

from gateway.validators.prefix.scanner import Prefix

__all__ = ["Prefix"]
