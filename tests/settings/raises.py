"""A module whose import fails, as somebody's kind may."""

raise RuntimeError("this module cannot be imported")
