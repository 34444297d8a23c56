"""Bad input is reported as a sentence: Luigi's log keeps its tracebacks for errors in the code."""

import logging

from datasets.errors import DataError


class _Sentence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DataError):
            task = record.args[-1] if isinstance(record.args, tuple) and record.args else ""
            record.msg, record.args, record.exc_info = "%s: %s", (getattr(task, "name", task), error), None
        elif isinstance(error, RuntimeError) and "at run time" in str(error):  # Luigi's word for it; `run` goes on
            record.msg, record.args, record.exc_info = (
                "A deleted input was regenerated with different content; checking the chain again.",
                (),
                None,
            )
        return True


def no_tracebacks_for_bad_input() -> None:
    """Print a DataError that stops a task as its text alone."""
    logger = logging.getLogger("luigi-interface")
    if not any(isinstance(f, _Sentence) for f in logger.filters):
        logger.addFilter(_Sentence())
