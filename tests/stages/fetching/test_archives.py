"""Archives are unpacked completely, in bounded memory, and only below the target folder."""

import gzip
import io
import os
import shutil
import tarfile
import tracemalloc
import zipfile
from collections import namedtuple

import py7zr
import pytest

from datasets.errors import DataError
from stages.fetching import unpacking
from stages.fetching.archives import unpack, zstd
from tests.hostile import mended_7z

JPEG = b"\xff\xd8" + b"picture" * 50 + b"\xff\xd9"
PATTERN = r"(?:.*/)?(?P<to>images/[^/]+\.jpg)"


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                tar.addfile(info)
    return path


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def make_7z(path, members, **options):
    with py7zr.SevenZipFile(path, "w", **options) as file:
        for name, content in members.items():
            file.writestr(content, name)
    return path


def make_zst(path, members):
    path.write_bytes(zstd.compress(make_tar(path, members, "w").read_bytes()))
    return path


def make_twice(path, members):
    """Compress a .tar.gz again, as some servers do; browsers save the file in this form."""
    path.write_bytes(gzip.compress(make_tar(path, members).read_bytes()))
    return path


def written(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("make", [make_tar, make_zip, make_7z, make_zst, make_twice])
def test_wanted_members_are_unpacked(tmp_path, make):
    members = {"top/images/a.jpg": JPEG, "images/b.jpg": JPEG + b"\0\0", "images/notes.txt": b"x", "other/c.jpg": JPEG}
    archive = make(tmp_path / "archive", members)
    assert unpack(archive, PATTERN, tmp_path / "out") == 2
    assert written(tmp_path / "out") == {"images/a.jpg": JPEG, "images/b.jpg": JPEG + b"\0\0"}


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("name", ["../evil.jpg", "images/../../evil.jpg", "/tmp/evil.jpg", "..\\evil.jpg"])
def test_a_member_that_points_outside_is_refused(tmp_path, make, name):
    archive = make(tmp_path / "archive", {"images/a.jpg": JPEG, name: JPEG})
    with pytest.raises(DataError, match="outside"):
        unpack(archive, PATTERN, tmp_path / "out")
    assert not list(tmp_path.rglob("evil*"))


def test_links_and_devices_are_not_made(tmp_path):
    members = {
        "images/link.jpg": (tarfile.SYMTYPE, "/etc/passwd"),
        "images/hard.jpg": (tarfile.LNKTYPE, "images/link.jpg"),
        "images/pipe.jpg": (tarfile.FIFOTYPE, ""),
        "images/a.jpg": JPEG,
    }
    assert unpack(make_tar(tmp_path / "a.tar.gz", members), PATTERN, tmp_path / "out") == 1
    assert [p.name for p in (tmp_path / "out/images").iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("make", [make_tar, make_zip, make_7z, make_zst])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.98])
def test_a_truncated_archive_is_named(tmp_path, make, share):
    content = {f"images/{i}.jpg": b"\xff\xd8" + os.urandom(5000) + b"\xff\xd9" for i in range(20)}
    archive = make(tmp_path / "archive", content)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="archive is damaged or truncated"):
        unpack(archive, PATTERN, tmp_path / "out")


def test_a_changed_byte_is_found(tmp_path):
    archive = make_zip(tmp_path / "archive", {"images/a.jpg": JPEG})
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, PATTERN, tmp_path / "out")


def test_members_that_a_damaged_list_hides_are_missed(tmp_path):
    archive = make_zip(tmp_path / "archive", {"images/a.jpg": JPEG, "images/b.jpg": JPEG})
    content = bytearray(archive.read_bytes())
    first = content.index(b"PK\1\2")
    second = content.index(b"PK\1\2", first + 1)
    # In the zip's list of members, lengthen the comment of member a, so that the comment hides the entry of member b.
    content[first + 32 : first + 34] = (content.index(b"PK\5\6") - second).to_bytes(2, "little")
    archive.write_bytes(content)
    with pytest.raises(DataError, match="1 of 2 members are listed"):
        unpack(archive, PATTERN, tmp_path / "out")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_cut_between_two_members_is_found(tmp_path, mode):
    archive = make_tar(tmp_path / "archive", {f"images/{i}.jpg": b"x" * 512 for i in range(4)}, "w")
    cut = archive.read_bytes()[: 2 * 1024]  # each member consists of a header and one block of content
    archive.write_bytes(cut if mode == "w" else gzip.compress(cut))
    with pytest.raises(DataError, match="damaged or truncated"):
        unpack(archive, PATTERN, tmp_path / "out")


@pytest.mark.parametrize("place", [1024 + 100, 1024 + 600])  # the changed byte lies in a member's header, or in its content
def test_a_changed_byte_in_a_gzipped_tar_is_found(tmp_path, place):
    plain = make_tar(tmp_path / "plain", {f"images/{i}.jpg": b"x" * 512 for i in range(4)}, "w").read_bytes()
    whole = bytearray(gzip.compress(plain, compresslevel=0))
    whole[15 + place] ^= 1  # The blocks are not compressed; 10 bytes of gzip header and 5 bytes of block header come first.
    (tmp_path / "archive").write_bytes(whole)
    with pytest.raises(DataError, match="damaged or truncated"):
        unpack(tmp_path / "archive", PATTERN, tmp_path / "out")


def test_a_wrong_archive_is_refused(tmp_path):
    with pytest.raises(DataError, match="Give the right archive"):
        unpack(make_tar(tmp_path / "a.tar.gz", {"readme": b"x"}), PATTERN, tmp_path / "out")


def test_an_interrupted_unpacking_resumes(tmp_path):
    archive = make_tar(tmp_path / "a.tar.gz", {f"images/{i}.jpg": JPEG for i in range(5)})

    def stop(*_, **__):
        if len(list(tmp_path.glob("out/images/*.jpg"))) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, PATTERN, tmp_path / "out", stop)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/images").iterdir()}
    assert unpack(archive, PATTERN, tmp_path / "out") == 5
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/images").iterdir()}
    assert len(before) == 3 and before.items() <= after.items()


def test_files_damaged_by_a_power_loss_are_corrected(tmp_path):
    """The folder has a file of the right size with blocks of zeros, an incomplete file, and a file that is too long."""
    members = {f"images/{i}.jpg": os.urandom(3 << 20) for i in range(4)}
    folder = tmp_path / "out/images"
    folder.mkdir(parents=True)
    whole = [members[f"images/{i}.jpg"] for i in range(4)]
    (folder / "0.jpg").write_bytes(whole[0][: 2 << 20] + bytes(1 << 20))
    (folder / "1.jpg").write_bytes(whole[1][:100])
    (folder / "2.jpg").write_bytes(whole[2] + b"more")
    assert unpack(make_tar(tmp_path / "a.tar", members, "w"), PATTERN, tmp_path / "out") == 4
    assert [(folder / f"{i}.jpg").read_bytes() == whole[i] for i in range(4)] == [True] * 4


@pytest.mark.parametrize("mode", ["w", "w:bz2", "w:xz"])
def test_other_compressions(tmp_path, mode):
    archive = make_tar(tmp_path / "archive", {f"images/{i}.jpg": os.urandom(5000) for i in range(20)}, mode)
    assert unpack(archive, PATTERN, tmp_path / "out") == 20
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:40] + bytes(64) + whole[104:]):
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged or truncated"):
            unpack(archive, PATTERN, tmp_path / "out2")


def test_the_error_names_the_damaged_member(tmp_path):
    archive = make_tar(tmp_path / "a.tar", {f"images/{i}.jpg": b"x" * 5000 for i in range(4)}, "w")
    archive.write_bytes(archive.read_bytes()[: 2 * (512 + 5120) + 512 + 3000])
    with pytest.raises(DataError, match=r"failed in 'images/2\.jpg' \(unexpected end of data\)"):
        unpack(archive, PATTERN, tmp_path / "out")
    archive = make_zip(tmp_path / "a.zip", {f"images/{i}.jpg": os.urandom(5000) for i in range(4)})
    content = bytearray(archive.read_bytes())
    content[2 * 5050 + 1000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"failed in 'images/2\.jpg' \(Bad CRC-32"):
        unpack(archive, PATTERN, tmp_path / "out")


@pytest.mark.parametrize("make", [make_tar, make_zip, make_7z])
def test_too_much_content_is_refused(tmp_path, monkeypatch, make):
    archive = make(tmp_path / "bomb", {"notes": bytes(8 << 20), "images/a.jpg": bytes(9 << 20)})
    assert archive.stat().st_size < 40_000
    monkeypatch.setattr(unpacking, "AT_LEAST", 8 << 20)
    with pytest.raises(DataError, match=r"unpacks to more than 8 MB"):
        unpack(archive, PATTERN, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(unpacking, "LARGEST_MEMBER", 8 << 20)
    with pytest.raises(DataError, match=r"claims 9437184 bytes"):
        unpack(archive, PATTERN, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 1)
    with pytest.raises(DataError, match=r"images/a\.jpg', number 2"):
        unpack(archive, PATTERN, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, b"Z", tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_claims_exabytes_is_not_followed(tmp_path, kind):
    info = tarfile.TarInfo("notes")
    info.type, info.size = kind, 1 << 60
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(header + bytes(10240))
    with pytest.raises(DataError, match=r"a header claims 1152921504606846976 bytes"):
        unpack(tmp_path / "a.tar", PATTERN, tmp_path / "out")
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("notes")
        info.type, info.pax_headers = kind, {"size": str(1 << 60)}
        tar.addfile(info)
    with pytest.raises(DataError):
        unpack(tmp_path / "b.tar", PATTERN, tmp_path / "out")


@pytest.mark.parametrize("name", ["images/" + "a" * 300 + ".jpg", "images/a\nb.jpg", "images/\udcff.jpg"])
def test_impossible_names_are_refused(tmp_path, name):
    archive = make_tar(tmp_path / "a.tar", {name: JPEG}, "w")
    with pytest.raises(DataError, match="impossible name"):
        unpack(archive, PATTERN, tmp_path / "out")


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_disk_space_is_checked_before_writing(tmp_path, monkeypatch, make):
    """A zip needs as much space as it states for the wanted files; a tar needs about as much as the tar itself.

    Files that are already unpacked need no further space.
    """
    archive = make(tmp_path / "archive", {f"images/{i}.jpg": os.urandom(1 << 20) for i in range(5)} | {"notes": os.urandom(9)})
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(5 << 20 if make is make_zip else 6 << 20))
    unpack(archive, PATTERN, tmp_path / "fits")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage((5 << 20) - 1))
    with pytest.raises(DataError, match=r"Unpacking .*archive needs [56] MB in .*, where 5 MB are free; free some space"):
        unpack(archive, PATTERN, tmp_path / "out")
    assert not list(tmp_path.glob("out/**/*.jpg"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 20))
    unpack(archive, PATTERN, tmp_path / "fits")


def test_a_web_page_is_no_archive(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(DataError, match=r"a\.tar\.gz is a web page"):
        unpack(tmp_path / "a.tar.gz", PATTERN, tmp_path / "out")


def test_memory_does_not_grow_with_the_archive(tmp_path):
    """The archive has 5,000 members, one of which is large; tarfile alone would keep every header in memory."""
    members = {f"notes/{i}": b"" for i in range(5000)} | {"images/a.jpg": bytes(40 << 20)}
    archive = make_tar(tmp_path / "a.tar.gz", members)
    tracemalloc.start()
    try:
        assert unpack(archive, PATTERN, tmp_path / "out") == 1
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


def test_names_with_backslashes(tmp_path):
    """Old programs for Windows write names with backslashes."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("images/a.jpg", "images/"):
            info = zipfile.ZipInfo(name)
            info.filename = "top\\" + name.replace("/", "\\")
            file.writestr(info, JPEG if name.endswith("jpg") else b"")
    assert unpack(tmp_path / "a.zip", PATTERN, tmp_path / "out") == 1
    assert written(tmp_path / "out") == {"images/a.jpg": JPEG}


def test_files_of_macos_are_left_out(tmp_path):
    members = {"images/a.jpg": JPEG, "__MACOSX/images/._a.jpg": b"\0\5\x16\7", "images/._a.jpg": b"\0\5\x16\7"}
    assert unpack(make_zip(tmp_path / "a.zip", members), PATTERN, tmp_path / "out") == 1
    assert written(tmp_path / "out") == {"images/a.jpg": JPEG}


def test_a_hard_link_in_a_tar_is_the_file_that_it_names(tmp_path):
    members = {"./t/images/a.jpg": JPEG, "t/images/b.jpg": (tarfile.LNKTYPE, "./t/images/a.jpg")}
    assert unpack(make_tar(tmp_path / "a.tar", members), PATTERN, tmp_path / "out") == 2
    assert written(tmp_path / "out") == {"images/a.jpg": JPEG, "images/b.jpg": JPEG}
    evil = make_tar(tmp_path / "evil.tar", {"images/b.jpg": (tarfile.LNKTYPE, "../images/secret.jpg")})
    with pytest.raises(DataError, match="outside"):
        unpack(evil, PATTERN, tmp_path / "out2")


def test_hard_links_count_with_the_size_of_their_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "AT_LEAST", 8 << 20)
    links = {f"images/{i}.jpg": (tarfile.LNKTYPE, "images/a.jpg") for i in range(20)}
    archive = make_tar(tmp_path / "a.tar.gz", {"images/a.jpg": bytes(1 << 20)} | links)
    with pytest.raises(DataError, match="unpacks to more than 8 MB"):
        unpack(archive, PATTERN, tmp_path / "out")
    assert sum(len(content) for content in written(tmp_path / "out").values()) <= 9 << 20


def sparse_tar(path, size, pax):
    """Write a gzipped tar with one sparse file of `size` bytes that contains no data; return its path."""
    info = tarfile.TarInfo("images/a.jpg")
    if pax:
        info.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.size": str(size),
            "GNU.sparse.map": "0,0",
        }
        header = info.tobuf(tarfile.PAX_FORMAT)
    else:
        info.type = tarfile.GNUTYPE_SPARSE
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[483:495] = b"%011o\0" % size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(gzip.compress(bytes(header) + bytes(10240)))
    return path


@pytest.mark.parametrize("pax", [False, True])
def test_a_sparse_file_is_refused_before_it_fills_the_disk(tmp_path, pax):
    archive = sparse_tar(tmp_path / "a.tar.gz", 600 << 20, pax)
    assert archive.stat().st_size < 500
    with tarfile.open(archive) as tar:
        assert tar.getmembers()[0].issparse() and tar.getmembers()[0].size == 600 << 20
    with pytest.raises(DataError, match=r"a\.tar\.gz holds 'images/a\.jpg' as a sparse file.*give the folder instead"):
        unpack(archive, PATTERN, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_7z_that_points_outside_is_refused(tmp_path):
    with py7zr.SevenZipFile(tmp_path / "b.7z", "w", filters=[{"id": py7zr.FILTER_COPY}]) as file:
        file.set_encoded_header_mode(False)
        file.writestr(JPEG, "images/a.jpg")
        file.writestr(JPEG, "XX/images/evil.jpg")
    content = (tmp_path / "b.7z").read_bytes()
    assert content.count("XX/".encode("utf-16-le")) == 1
    (tmp_path / "b.7z").write_bytes(mended_7z(content.replace("XX/".encode("utf-16-le"), "../".encode("utf-16-le"))))
    with pytest.raises(DataError, match="outside"):
        unpack(tmp_path / "b.7z", PATTERN, tmp_path / "out/out")
    assert not list(tmp_path.rglob("evil*"))


def test_encrypted_archives_are_not_called_damaged(tmp_path):
    make_7z(tmp_path / "a.7z", {"images/a.jpg": JPEG}, password="secret")
    content = bytearray(make_zip(tmp_path / "a.zip", {"images/a.jpg": JPEG}).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    for name in ("a.7z", "a.zip"):
        with pytest.raises(DataError, match="is encrypted; unpack it"):
            unpack(tmp_path / name, PATTERN, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.7 ...", "is a PDF document; expected an archive with images/*.jpg"),
        (b"images are on the server\n" * 40, "is a text file; expected an archive with images/*.jpg"),
        (b"MATLAB 5.0 MAT-file".ljust(600), "is a MATLAB file; expected an archive with images/*.jpg"),
        (b"Rar!\x1a\x07\x01\0" + bytes(600), "is a RAR archive, which is not supported; expected an archive with images/*.jpg"),
        (bytes(range(1, 200)) * 9, "is a file of an unknown kind; expected an archive with images/*.jpg"),
        (gzip.compress(b'[{"isValidation": 1}]' * 99, mtime=0), "is a compressed file that holds a JSON file; expected"),
        (gzip.compress(bytes(range(1, 200)) * 9, mtime=0), "is a compressed file that holds a file of an unknown kind"),
    ],
)
def test_the_error_for_a_wrong_source_names_its_kind(tmp_path, content, said):
    (tmp_path / "given").write_bytes(content)
    with pytest.raises(DataError) as error:
        unpack(tmp_path / "given", PATTERN, tmp_path / "out", expected="images/*.jpg")
    assert f"{tmp_path / 'given'} {said}" in str(error.value) and "damaged" not in str(error.value)


@pytest.mark.parametrize("make", [make_tar, make_zip, make_7z])
def test_the_error_for_another_archive_names_one_of_its_files(tmp_path, make):
    with pytest.raises(
        DataError, match=r"does not contain images/\*\.jpg: it has files such as 'labels/0001\.mat'\. Give the right archive"
    ):
        unpack(make(tmp_path / "a", {"labels/0001.mat": b"x"}), PATTERN, tmp_path / "out", expected="images/*.jpg")
