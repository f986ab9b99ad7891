"""Log lines: what happened as a fixed name, and which things it happened to as fields with ids.

No line holds a token, a password or what a company wrote into its fields. On a terminal a line is for eyes; everywhere
else it is one JSON object.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

# The local variables of a failed function hold whatever it worked on, so they stay out.
_EXCEPTION_AS_FIELDS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure(program: str) -> None:
    """Have this process write its lines, and those of its libraries from warning upwards, to the standard error.

    `program` (web, worker, cron, ...) is a field of each line. Our own lines do not pass through the logging of the
    standard library, which takes as long as all the rest of a line.
    """
    for_eyes = sys.stderr.isatty()
    rendering: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if for_eyes
        else [_EXCEPTION_AS_FIELDS, structlog.processors.JSONRenderer()]
    )

    def add_program(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["program"] = program
        return event

    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name, add_program],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for package in ("webapp", "workers"):
        logging.getLogger(package).setLevel(logging.INFO)
    structlog.configure(
        processors=[*_SHARED, add_program, *rendering],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
