"""Reading image files: pixels as stored, and an error message for every kind of damage."""

import io
import math

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from datasets.errors import DataError
from datasets.imaging.images import read_image, read_reduced, read_upright

pillow_heif.register_heif_opener()
PIXELS = np.random.default_rng(7).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(kind="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


def test_read_image_gives_rgb_as_stored(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    np.testing.assert_array_equal(read_image(path), PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(10))  # 1 to 8 are valid orientations
def test_the_exif_orientation_is_ignored_or_followed(tmp_path, kind, orientation):
    plain, path = tmp_path / "plain", tmp_path / "turned"
    plain.write_bytes(encoded(kind))
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "another entry", orientation
    path.write_bytes(encoded(kind, exif=exif))
    np.testing.assert_array_equal(read_image(path), read_image(plain))
    with Image.open(path) as image:
        np.testing.assert_allclose(read_upright(path), np.asarray(ImageOps.exif_transpose(image)), atol=1)
    # Change the EXIF header, so that it places the EXIF entries beyond the end of the file.
    path.write_bytes(path.read_bytes().replace(b"\0\0\0\x08\0\x02", b"\xff\xff\xff\xff\0\x02"))
    if kind == "JPEG":  # changes bytes that no checksum covers
        np.testing.assert_array_equal(read_upright(path), read_image(plain))


@pytest.mark.parametrize(("kind", "options"), [
    ("WEBP", {"lossless": True}), ("TIFF", {}), ("BMP", {}), ("TIFF", {"compression": "tiff_lzw"}),
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}), ("HEIF", {"quality": 100, "chroma": 444}),
])  # fmt: skip
@pytest.mark.parametrize("orientation", [1, 5, 8])
def test_a_picture_of_any_kind_is_read_upright(tmp_path, kind, options, orientation):
    image = Image.fromarray(np.kron(PIXELS[:6, :10], np.ones((16, 16, 1), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", kind, **options, **({} if kind == "BMP" else {"exif": exif.tobytes()}))
    expected = {1: image, 5: image.transpose(Image.Transpose.TRANSPOSE), 8: image.transpose(Image.Transpose.ROTATE_90)}
    difference = read_upright(tmp_path / "a.jpg") - np.asarray(expected[1 if kind == "BMP" else orientation], np.int16)
    assert abs(difference).mean() < (3 if kind in ("AVIF", "HEIF") else 1e-9)
    # The function for images of datasets reads only JPEG and PNG.
    with pytest.raises(DataError, match="neither a JPEG nor a PNG"):
        read_image(tmp_path / "a.jpg")


def test_grey_values_of_16_bits_are_scaled(tmp_path):
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "a.tif")
    assert abs(read_upright(tmp_path / "a.tif")[..., 1] - grey / 257).max() <= 1


def test_unsupported_pictures_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(PIXELS).save(path, save_all=True, append_images=[Image.fromarray(PIXELS)] * 2)
    with pytest.raises(DataError, match=r"a\.tif is refused: it holds 3 pictures"):
        read_upright(path)
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with pytest.raises(DataError, match="32 bits"):
        read_upright(path)
    path.write_text("<html>not found</html>")
    with pytest.raises(DataError, match="its format is not supported: it begins with b'<html>no'"):
        read_upright(path)


def test_read_image_accepts_bytes_after_the_end_and_grey_images(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded() + b"\0" * 100 + b"appended")
    assert read_image(path).shape == (24, 40, 3)
    Image.fromarray(PIXELS[..., 0]).save(path)
    image = read_image(path)
    assert image.shape == (24, 40, 3) and (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_read_image_finds_truncated_files(tmp_path, kind, part):
    data = encoded(kind)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(DataError, match=r"a\.jpg is damaged"):
        read_image(path)


def test_the_end_marker_of_a_thumbnail_is_ignored(tmp_path):
    data = encoded()
    thumbnail = b"\xff\xe1" + (2 + 40).to_bytes(2, "big") + b"Exif\0\0" + b"\xff\xd8" + b"\0" * 30 + b"\xff\xd9"
    data = data[:2] + thumbnail + data[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert read_image(path).shape == (24, 40, 3)
    path.write_bytes(data[:-40])
    with pytest.raises(DataError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize("content, sentence", [
    (None, "missing"), (b"", "empty"), (b"<html>not found</html>", "neither a JPEG nor a PNG"),
    (b"GIF89a" + b"\0" * 50, "neither"), (b"\xff\xd8\xff\xe0\0\x04ab\xff\xd9", "is damaged"),
])  # fmt: skip
def test_read_image_names_the_file_and_what_is_wrong(tmp_path, content, sentence):
    path = tmp_path / "0001.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as raised:
        read_image(path)
    assert str(path) in str(raised.value)


def test_read_image_of_a_folder(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)


def test_damage_that_a_decoder_would_conceal_is_found(tmp_path):
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(noise, "JPEG")
    data = noise.getvalue()
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert read_image(path).shape == (64, 64, 3)
    path.write_bytes(data[:1500] + bytes(300) + data[1800:])
    with pytest.raises(DataError, match=r"a\.jpg is damaged \(Corrupt JPEG data"):
        read_image(path)


def test_bytes_between_the_segments_of_a_jpeg_are_no_damage(tmp_path):
    clean, path = encoded(), tmp_path / "a.jpg"
    path.write_bytes(clean)
    pixels = read_image(path)
    for marker in (b"\xff\xdb", b"\xff\xc0", b"\xff\xda"):
        at = clean.index(marker)
        for extra in (b"ab", b"a\xff\x00b", b"\xff"):
            path.write_bytes(clean[:at] + extra + clean[at:])
            np.testing.assert_array_equal(read_image(path), pixels)
        path.write_bytes((clean[:at] + b"ab" + clean[at:])[:-300])
        with pytest.raises(DataError, match=r"a\.jpg is damaged"):
            read_image(path)


def test_a_changed_byte_in_a_png_is_found(tmp_path):
    data = bytearray(encoded("PNG"))
    data[len(data) // 2] ^= 1
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png is damaged"):
        read_image(path)


def test_a_header_that_claims_giant_sides_takes_no_memory(tmp_path):
    data = encoded()
    at = data.index(b"\xff\xc0") + 5  # height and width in the frame header, two bytes each
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:at] + b"\xff\x00" * 2 + data[at + 4 :])
    with pytest.raises(DataError, match=r"is refused: its header claims 65280 x 65280 px"):
        read_image(path)


@pytest.mark.parametrize("size", [(720, 1280), (333, 217), (9, 30), (6, 5)])
def test_a_reduced_jpeg_has_its_pixels_where_the_map_says(tmp_path, size):
    height, width = size
    y, x = np.mgrid[:height, :width]
    ramps = np.stack((20 + 200 * x / width, 20 + 200 * y / height, np.full(size, 90)), axis=2)
    path = tmp_path / "a.jpg"
    Image.fromarray(ramps.astype(np.uint8)).save(path, quality=98, subsampling=2)
    for block, expected in ((1, 1), (2, 2), (3, 1), (4, 4), (6, 2), (8, 8), (24, 8)):
        image, factor = read_reduced(path, block)
        assert factor == (expected if max(size) > 8 else 1)
        assert image.shape == (math.ceil(height / factor), math.ceil(width / factor), 3)
        # Compare only the blocks that the image's edge does not cut off.
        v, u = np.mgrid[: height // factor, : width // factor] * factor + (factor - 1) / 2
        seen = image[: v.shape[0], : v.shape[1]].astype(float)
        if min(size) > 100:  # a shift of 1 px changes the mean, but single values by less than rounding does
            assert abs((seen[..., 0] - 20 - 200 * u / width).mean() + 0.5) < 0.15
            assert abs((seen[..., 1] - 20 - 200 * v / height).mean() + 0.5) < 0.15


def test_a_png_is_not_reduced(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    image, factor = read_reduced(path, 8)
    assert factor == 1
    np.testing.assert_array_equal(image, PIXELS)
