# SPDX-License-Identifier: Apache-2.0
"""Writes libconfig text from Python values.

dict -> group, list of dicts or lists -> list "( )", list of scalars -> array "[ ]", str -> quoted.
"""


def value(item, indent=""):
    deeper = indent + "    "
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        return str(item) if -2**31 <= item < 2**31 else f"{item}L"
    if isinstance(item, float):
        return repr(item)
    if isinstance(item, (str, bytes)) or hasattr(item, "__fspath__"):
        text = item if isinstance(item, str) else str(item)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(item, dict):
        lines = [f"{deeper}{key} = {value(entry, deeper)};\n" for key, entry in item.items()]
        return "{\n" + "".join(lines) + indent + "}"
    if isinstance(item, (list, tuple)):
        has_parts = any(isinstance(entry, (dict, list, tuple)) for entry in item)
        left, right = ("(", ")") if has_parts else ("[", "]")
        return f"{left} " + ", ".join(value(entry, deeper) for entry in item) + f" {right}"
    raise TypeError(f"no libconfig form for {item!r}")


def settings(items):
    """Top-level settings, one a line."""
    return "".join(f"{key} = {value(entry)};\n" for key, entry in items.items())
