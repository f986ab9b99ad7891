"""Reading files that other programs exported: tables, their columns, and the report of an import."""
