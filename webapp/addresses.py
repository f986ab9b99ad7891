"""What addresses name, as converters for routes: `<id:record_id>` is a row of a table, `<module:module>` a module."""

from __future__ import annotations

from werkzeug.routing import AnyConverter, IntegerConverter, Map

from webapp.modules import MODULES, Module

# What a bigint of PostgreSQL can hold: a larger number is the id of nothing.
HIGHEST_ID = 2**63 - 1

_MODULES = {module.name: module for module in MODULES}


class IdConverter(IntegerConverter):
    """An id, as a number."""

    def __init__(self, map: Map) -> None:
        super().__init__(map, max=HIGHEST_ID)


class ModuleConverter(AnyConverter):
    """A module by its name."""

    def __init__(self, map: Map) -> None:
        super().__init__(map, *_MODULES)

    def to_python(self, value: str) -> Module:
        """The module that an address names."""
        return _MODULES[value]

    def to_url(self, value: Module | str) -> str:
        """The name of a module, which may be given by its name as well."""
        return super().to_url(value.name if isinstance(value, Module) else value)
