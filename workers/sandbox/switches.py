"""Where Sage's behaviour is not confirmed or varies, the sandbox takes the strict side; a switch gives the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints


@dataclass(frozen=True, slots=True)
class Switches:
    """How the sandbox behaves. The defaults are the strict or documented side."""

    access_token_seconds: int = 300
    code_seconds: int = 60
    rotation: Literal["strict", "lenient"] = "strict"
    """lenient: a used refresh token works again."""
    money: Literal["string", "number"] = "string"
    next_link: Literal["relative", "absolute"] = "relative"
    size_key: Literal["$itemsPerPage", "$items_per_page"] = "$itemsPerPage"
    nested: Literal["base", "full"] = "base"
    """full: answers show the address and the person of a contact in full without `nested_attributes`."""
    touch: Literal["own", "contact"] = "own"
    """contact: a change of an address or a person also moves `updated_at` of its contact."""
    omitted_parts: Literal["kept", "cleared"] = "kept"
    """cleared: a PUT of a contact without its address or person empties them, as far as they may be empty."""
    errors: Literal["list", "object"] = "list"

    def changed(self, changes: Mapping[str, Any]) -> Switches:
        """A copy with these changes. Raises ValueError, naming what is allowed, for an unknown name or value."""
        hints = get_type_hints(Switches)
        for name, value in changes.items():
            if name not in hints:
                raise ValueError(
                    f"{name} is not a switch; there are {', '.join(one.name for one in fields(Switches))}."
                )
            words = get_args(hints[name])
            if words and value not in words:
                raise ValueError(f"{name} must be one of: {', '.join(words)}.")
            if not words and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise ValueError(f"{name} must be a whole number of seconds; 0 lets it expire at once.")
        return Switches(**{**asdict(self), **changes})
