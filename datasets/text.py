"""Text files as editors write them: UTF-8 with or without a byte order mark, Notepad's UTF-16, or Windows-1252."""

import codecs


def decode(data: bytes) -> str:
    """Return the text of a file's content, with \\n at the end of its lines and without a byte order mark.

    Content that is not UTF-8 is read as UTF-16 where it begins with that byte order mark, and else as Windows-1252, which
    agrees with Latin-1 in all printable characters.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
