"""Write NumPy's .npz files (zip archives of named arrays), and read .npz files from untrusted sources safely.

`numpy.load` allocates any size that the header of an array claims, and unpickles objects if the caller allows it. The reader in
this module checks each header against the number of bytes in the archive, and refuses arrays of Python objects.
"""

import io
import math
import sys
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.files import write_atomically

MOST = 1 << 30  # largest total size in bytes of the arrays that are read, after decompression
_LONGEST_HEADER = 10_000  # largest size of an array's header in bytes; numpy has the same limit


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays by name to a .npz file atomically. Equal arrays give equal bytes. Raises OSError, e.g. for a full disk."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())


def read_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Return name -> array for the given names in a .npz file, with the stored dtypes and shapes.

    Raises DataError if the file is missing, damaged or no .npz file, if one of the arrays is missing or contains Python
    objects, or if the arrays would take more than MOST bytes.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; correct the path in the settings.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = [name for name in names if name not in members]
            if missing:
                raise DataError(f"{path} has no array {missing[0]!r}; it has {', '.join(sorted(members)[:8]) or 'none'}.")
            if sum(members[name].file_size for name in names) > MOST:
                raise DataError(f"{path} unpacks to more than {MOST} bytes; check the path.")
            return {name: _array(archive.read(members[name]), f"{path}: array {name!r}") for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise DataError(f"{path} is not a readable .npz file ({error}); it may be cut short: copy or make it again.") from None


def _array(data: bytes, where: str) -> np.ndarray:
    """Return the array in a .npy file's content. Raises DataError for invalid content. where: the array's name in messages."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(file, max_header_size=_LONGEST_HEADER)
    except (ValueError, KeyError, TypeError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise DataError(f"{where} has no header that can be read ({error}); make the file again.") from None
    if dtype.hasobject or dtype.names or dtype.subdtype or dtype.itemsize == 0:
        raise DataError(f"{where} holds {dtype}, expected numbers or texts; make the file again.")
    found, claimed = len(data) - file.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed != found:
        raise DataError(f"{where} has {found} bytes for {dtype} of shape {shape}; the file is damaged: make it again.")
    values = np.frombuffer(data, dtype, offset=file.tell())
    if dtype.kind == "U":  # numpy raises SystemError for invalid Unicode code points
        codes = values.view(dtype.str[0] + "u4")
        if ((codes > sys.maxunicode) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any():
            raise DataError(f"{where} has texts with illegal characters; the file is damaged: make it again.")
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)
