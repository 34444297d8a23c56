"""Log errors in the input (DataError) without tracebacks; Luigi still logs errors in the code with tracebacks."""

import logging

from datasets.errors import DataError


class _Sentence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DataError):
            task = record.args[-1] if isinstance(record.args, tuple) and record.args else ""
            record.msg, record.args, record.exc_info = "%s: %s", (getattr(task, "name", task), error), None
        # Replaces Luigi's message about an input that is missing at run time; the command `run` then starts Luigi again.
        elif isinstance(error, RuntimeError) and "at run time" in str(error):
            record.msg, record.args, record.exc_info = (
                "An input was deleted, or regenerated with different content; checking the chain again.",
                (),
                None,
            )
        return True


def no_tracebacks_for_bad_input() -> None:
    """Make Luigi log only the text, without a traceback, of a DataError that stops a task."""
    logger = logging.getLogger("luigi-interface")
    if not any(isinstance(f, _Sentence) for f in logger.filters):
        logger.addFilter(_Sentence())
