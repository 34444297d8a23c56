"""DataError, the exception for wrong input; its text is shown to the user."""


class DataError(Exception):
    """An error in the input that the user can correct, such as in a file, a setting or an archive.

    Its text says in one or two sentences what was found, what was expected, where (file, sequence, frame), and what to do. The
    command line prints the text without a traceback and exits with a code other than 0.
    """
