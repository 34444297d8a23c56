"""DataError, the exception for wrong input; its text is shown to the user."""


class DataError(Exception):
    """An error in the user's input, such as a file, a setting or an archive, which the user can correct.

    The text of the error states in one or two sentences what was found, what was expected, where (file, sequence, frame), and
    what the user can do. The command line prints the text without a traceback and exits with a code other than 0.
    """
