"""The one exception that means: the input is wrong, and here is the sentence for the person who can mend it."""


class DataError(Exception):
    """What was found, what was expected, where (file, sequence, frame), and what to do; one sentence or two, no traceback.

    Raised by everything that reads files, settings or archives. The command line prints its text and exits non-zero.
    """
