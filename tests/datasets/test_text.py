"""Tests of reading text in the encodings that text editors use for saving."""

import pytest

from datasets.files import decode_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_one_text_in_every_encoding(encoding):
    assert decode_text("[workspace]\r\nexp = Bücher\rend\n".encode(encoding)) == "[workspace]\nexp = Bücher\nend\n"


def test_invalid_bytes_raise_no_error():
    assert decode_text(b"\xff\xfea") == decode_text(b"\x81") == "\ufffd"
    assert decode_text(b"") == ""
