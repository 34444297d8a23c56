"""Read randomly damaged files, one after the other: python -m tests.hostile FIRST COUNT [KIND ...]

The program damages and reads COUNT files of every kind, with seeds from FIRST on. It may use 3 GiB of additional address space,
and 20 seconds per file. Reading a file must give a valid result, or a `DataError` that contains the file's path; otherwise the
process fails.
"""

import argparse
import gzip
import io
import itertools
import json
import re
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pillow_heif
import py7zr
import torch
from numpy.random import Generator
from PIL import Image
from scipy.io import savemat

from datasets import lsp
from datasets.errors import DataError
from datasets.formats import annotations, mpii_release, mpii_split, penn_labels
from datasets.imaging.images import read_image, read_upright
from datasets.mocap import clips, human36m, recordings
from stages.evaluation.prediction_files import read_predictions
from stages.fetching.archives import unpack, zstd
from stages.forecasting.published import read_forecaster
from stages.importing import import_pytorch
from stages.inference.video import VideoReader, VideoWriter
from stages.lifting.published import read_combined, read_converter
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from stages.torch7 import import_network as import_torch7
from stages.torch7 import t7 as torch7
from stages.torch7.export_network import as_torch7
from tests.datasets import test_mpii, test_penn_action
from tests.datasets.formats import test_annotations
from tests.datasets.mocap import test_mocap, test_recordings
from tests.ports import Bearpaw, Princeton, port
from tests.published_networks import Published3D

pillow_heif.register_heif_opener()
# Values with which `damage` replaces sizes, types and flags in files.
NUMBERS = (0, 1, 7, 8, 14, 15, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)


def damage(data: bytes, rng: Generator) -> bytes:
    """Return data with one to three damages: a flipped bit, replaced bytes, a copied or deleted piece, or a missing end."""
    for _ in range(rng.integers(1, 4)):
        at, source = rng.integers(0, max(len(data), 1), 2).tolist()
        length, field = int(rng.integers(1, 200)), at & ~3
        number = int(rng.choice(NUMBERS)).to_bytes(4, rng.choice(["little", "big"]))[: rng.choice([2, 4])]
        data = (
            data[:at] + bytes(byte ^ 1 << rng.integers(8) for byte in data[at : at + 1]) + data[at + 1 :],
            data[:at] + rng.bytes(2) + data[at + 2 :],
            data[:field] + number + data[field + len(number) :],
            data[:at] + data[source : source + length] + data[at + length * int(rng.integers(2)) :],
            data[:at] + data[at + (length & ~7) :],
            data[:at],
        )[rng.choice(6, p=[0.2, 0.15, 0.35, 0.15, 0.1, 0.05])]
    return data


# These functions correct checksums and similar values after the damage; otherwise every reader would stop at its first check.


def compressed_mat(data: bytes) -> bytes:
    content = zlib.compress(data[128:])
    return data[:128] + (15).to_bytes(4, "little") + len(content).to_bytes(4, "little") + content


def mended_tar(data: bytes) -> bytes:
    blocks = [data[i : i + 512] for i in range(0, len(data), 512)]
    for i, block in enumerate(blocks):
        if block[257:262] == b"ustar":
            blocks[i] = block[:148] + b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:])) + block[156:]
    return b"".join(blocks)


def mended_png(data: bytes) -> bytes:
    out, position = data[:8], 8
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4])
        chunk = data[position + 4 : position + 8 + size]
        out += data[position : position + 4] + chunk + zlib.crc32(chunk).to_bytes(4)
        position += 12 + size
    return out


# These functions return the bytes of undamaged files; most of them first write the file into an empty folder.


def label(folder: Path, compress: bool = False) -> bytes:
    savemat(folder / "l.mat", test_penn_action.content(), do_compression=compress)
    return (folder / "l.mat").read_bytes()


def release(folder: Path) -> bytes:
    person = test_mpii.struct(test_mpii.PERSON, test_mpii.PERSON)
    path = test_mpii.write_release(folder / "r.mat", [person, test_mpii.EMPTY, person], [1, 0, 1])
    whole = path.read_bytes()
    return whole[:128] + zlib.decompress(whole[136:])


def joints(folder: Path) -> bytes:
    savemat(folder / "j.mat", {"joints": np.arange(126.0).reshape(3, 14, 3) % 2})
    return (folder / "j.mat").read_bytes()


def h5(folder: Path) -> bytes:
    annotations.write(folder, "valid", test_annotations.people())
    return (folder / "valid.h5").read_bytes()


def split(folder: Path) -> bytes:
    with h5py.File(folder / "s.h5", "w") as file:
        file["index"], file["person"], file["imgname"] = [0.0, 2.0], [0.0, 0.0], np.array([b"0.jpg", b"2.jpg"])
    return (folder / "s.h5").read_bytes()


def t7(folder: Path, **options) -> bytes:
    network = HourglassNet(Network(stem="2 4 4", features=8, depth=2), 3).eval()
    torch7.write(folder / "n.t7", as_torch7(network, cudnn=True), **options)
    return (folder / "n.t7").read_bytes()


def published(name: str, folder: Path) -> bytes:
    return Published3D(name, frozen=True).write(folder / "n.t7").read_bytes()


def checkpoint(kind: type, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    beside = {"best": np.float64(0.5), "args": argparse.Namespace(lr=0.1, data=Path("data"))}
    content = {"epoch": 3, "state_dict": port(kind, stacks=1).state_dict(), **beside}
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


WHOLE = checkpoint(Princeton)


def pickled(_: Path) -> bytes:
    """Return the member data.pkl of a checkpoint, which describes the other members."""
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as file:
        return file.read("archive/data.pkl")


def with_pickle(data: bytes) -> bytes:
    new = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as old, zipfile.ZipFile(new, "w") as file:
        for name in old.namelist():
            file.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    return new.getvalue()


def predictions(folder: Path) -> bytes:
    np.save(folder / "p.npy", np.ones((3, 16, 2), np.float16))
    return (folder / "p.npy").read_bytes()


MOTION = {
    "start": np.array([0, 3]), "names": np.array(["walk_1"]), "fps": np.array([25.0]), "joints": np.array(["head", "r_hip"]),
}  # fmt: skip


def motion(folder: Path) -> bytes:
    """Return the bytes of the poses in a motion capture file; `with_motion` inserts them into a complete file."""
    np.save(folder / "poses.npy", 1000.0 * np.arange(18).reshape(3, 2, 3) % 7000)
    return (folder / "poses.npy").read_bytes()


def with_motion(data: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, **MOTION)  # type: ignore[arg-type]
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("poses.npy", data)
    return file.getvalue()


def human36m_mat(folder: Path) -> bytes:
    test_mocap.write_human36m(folder / "train.mat", [[1, 2, 1, 6], [1, 2, 1, 16], [1, 3, 1, 6]])
    return (folder / "train.mat").read_bytes()


def recorded_bvh(folder: Path) -> bytes:
    return test_recordings.write_bvh(folder / "a.bvh", test_recordings.frames(3)).encode()


def recorded_amc(folder: Path, name: str) -> bytes:
    test_recordings.write_acclaim(folder, 3)
    return (folder / name).read_bytes()


def keypoints(_: Path) -> bytes:
    return json.dumps([{"keypoints": [[1.5, 2, 0.9]] * 16, "bbox_id": i} for i in range(3)]).encode()


def image(suffix: str) -> bytes:
    y, x = np.mgrid[:48, :64]
    return cv2.imencode(suffix, np.dstack([4 * x, 5 * y, x * y % 256]).astype(np.uint8))[1].tobytes()


MEMBERS = {"images/1.jpg": image(".jpg"), "images/2.jpg": bytes(700), "README": b"x" * 99}


def tar(folder: Path) -> bytes:
    with tarfile.open(folder / "a.tar", "w") as archive:
        for name, content in MEMBERS.items():
            (folder / "member").write_bytes(content)
            archive.add(folder / "member", name)
    return (folder / "a.tar").read_bytes()


def zipped(folder: Path) -> bytes:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    return (folder / "a.zip").read_bytes()


def seven_zip(_: Path) -> bytes:
    """Return a .7z archive whose content and list of members are not compressed, so that both can be damaged."""
    file = io.BytesIO()
    with py7zr.SevenZipFile(file, "w", filters=[{"id": py7zr.FILTER_COPY}]) as archive:
        archive.set_encoded_header_mode(False)
        for name, content in MEMBERS.items():
            archive.writestr(content, name)
    return file.getvalue()


def mended_7z(data: bytes) -> bytes:
    """Return the .7z archive with correct checksums of its list of members."""
    if len(data) < 32:
        return data
    start, size = struct.unpack_from("<QQ", data, 12)
    listed = zlib.crc32(data[32 + start :][:size])
    begin = data[12:28] + struct.pack("<I", listed)
    return data[:8] + struct.pack("<I", zlib.crc32(begin)) + begin + data[32:]


# These functions read a damaged file and check the result.


def read_label(path: Path) -> None:
    found = penn_labels.read_label(path)
    assert found.joints.shape == (found.frames, 13, 2) and found.visible.shape == (found.frames, 13)
    assert np.isfinite(found.joints).all() and np.isfinite(found.bbox).all() and found.frames <= 3


def valid(people: annotations.Annotations, joints: int) -> bool:
    numbers = np.column_stack([people.center, people.scale, people.normalize, people.torsoangle])
    return people.part.shape == (len(people), joints, 2) and bool(np.isfinite(numbers).all() and (people.scale > 0).all())


def read_release(path: Path) -> None:
    people = mpii_release.read(path).people
    assert valid(people, 16) and len(people) <= 4


def read_joints(path: Path) -> None:
    assert valid(lsp.read_people(path, ["im1.jpg", "im2.jpg", "im3.jpg"], "occluded"), 14)


def read_h5(path: Path) -> None:
    path.rename(path.with_name("valid.h5"))
    (path.parent / "valid_images.txt").write_text("a.jpg\nlong_name.jpg\n")
    people = annotations.read(path.parent, "valid")
    assert valid(people, people.part.shape[1]) and len(people) == 2


def read_split(path: Path) -> None:
    test_mpii.write_release(path.parent / "r.mat", [test_mpii.struct(test_mpii.PERSON)] * 3, [1, 1, 1])
    split_file = path.rename(path.with_name("split.h5"))
    assert len(mpii_split.split(mpii_release.read(path.parent / "r.mat"), split_file, 0, 0)["valid"]) <= 2


def read_archive(path: Path) -> None:
    out = path.parent / "out"
    try:
        count = unpack(path, r"(?:.*/)?(?P<to>images/[^/]+\.jpg)", out)
    finally:
        assert {p.name for p in path.parent.iterdir()} <= {path.name, "out"}
        assert not any(p.is_symlink() for p in out.rglob("*"))
    unpacked = [p.read_bytes() for p in out.rglob("*.jpg")]
    assert 0 < len(unpacked) <= count
    if zipfile.is_zipfile(path):  # a zip has a list of its members and their checksums, a tar has neither
        assert sorted(unpacked) == sorted(list(MEMBERS.values())[:2])


def read_network(read: Callable[[Path], HourglassNet], path: Path) -> None:
    network = read(path)
    assert network.joints <= 16 and all(tensor.isfinite().all() for tensor in network.state_dict().values())


def read_t7(path: Path) -> None:
    read_network(import_torch7.read_hourglass, path)


def read_published(name: str, read: Callable[[Path], Any], path: Path) -> None:
    networks, arrays = read(path), Published3D(name).arrays
    whole = sum(array.size for key, array in arrays.items() if not re.search("running|units", key))
    assert sum(parameter.numel() for network in networks for parameter in network.parameters()) == whole
    for network in networks:
        assert not network.training and all(tensor.isfinite().all() for tensor in network.state_dict().values())


def read_checkpoint(path: Path) -> None:
    read_network(import_pytorch.read_hourglass, path)


def read_predicted(path: Path, suffix: str) -> None:
    points, _ = read_predictions(path.rename(path.with_name(f"p{suffix}")), 3)
    assert points.shape == (3, 16, 2) and points.dtype == np.float64


def read_motion(path: Path) -> None:
    found = clips.read(path)
    assert found.poses.shape == (3, 2, 3) and np.isfinite(found.poses).all()


def read_human36m(path: Path) -> None:
    for name in ("train.mat", "val.mat"):
        path.with_name(name).write_bytes(path.read_bytes())
    found = human36m.read(path.parent)
    assert found.poses.shape == (6, 17, 3) and np.isfinite(found.poses).all()


def read_recorded(path: Path, name: str) -> None:
    if name != "a.bvh":
        test_recordings.write_acclaim(path.parent, 3)
    path.rename(path.with_name(name))
    found = recordings.read(path.parent)
    assert found.poses.shape[1:] == (13, 3) and np.isfinite(found.poses).all() and 0 < len(found.poses) < 100


def read_picture(path: Path) -> None:
    pixels = read_image(path)
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


def saved(kind: str, **options: Any) -> bytes:
    y, x = np.mgrid[:48, :64]
    file = io.BytesIO()
    Image.fromarray(np.dstack([4 * x, 5 * y, x * y % 256]).astype(np.uint8)).save(file, kind, **options)
    return file.getvalue()


def video(folder: Path) -> bytes:
    writer = VideoWriter(folder / "v.mp4", Fraction(25))
    for number in range(8):
        writer.add(np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8), number / 25)
    writer.close()
    return (folder / "v.mp4").read_bytes()


def read_video(path: Path) -> None:
    reader = VideoReader(path)
    frames = list(reader)
    reader.close()
    assert all(frame.pixels.shape[2] == 3 and frame.pixels.dtype == np.uint8 for frame in frames)
    assert all(a.time < b.time for a, b in itertools.pairwise(frames))
    if reader.failed:
        raise DataError(" ".join(reader.failed))


def read_any_picture(path: Path) -> None:
    pixels = read_upright(path)
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


KINDS: dict[str, tuple[Callable[[Path], bytes], Callable[[bytes], bytes], Callable[[Path], None]]] = {
    "label": (label, bytes, read_label),
    "compressed label": (lambda folder: label(folder, compress=True), bytes, read_label),
    "release": (release, bytes, read_release),
    "compressed release": (release, compressed_mat, read_release),
    "joints": (joints, bytes, read_joints),
    "h5": (h5, bytes, read_h5),
    "split": (split, bytes, read_split),
    "tar": (tar, mended_tar, read_archive),
    "tar.gz": (tar, lambda data: gzip.compress(mended_tar(data), 1), read_archive),
    "damaged gz": (lambda folder: gzip.compress(tar(folder)), bytes, read_archive),
    "zip": (zipped, bytes, read_archive),
    "tar.zst": (tar, lambda data: zstd.compress(mended_tar(data)), read_archive),
    "7z": (seven_zip, mended_7z, read_archive),
    "jpeg": (lambda _: image(".jpg"), bytes, read_picture),
    "png": (lambda _: image(".png"), bytes, read_picture),
    "progressive jpeg": (lambda _: saved("JPEG", progressive=True), bytes, read_any_picture),
    "webp": (lambda _: saved("WEBP", lossless=True), bytes, read_any_picture),
    "tiff": (lambda _: saved("TIFF", compression="tiff_lzw"), bytes, read_any_picture),
    "avif": (lambda _: saved("AVIF"), bytes, read_any_picture),
    "heif": (lambda _: saved("HEIF"), bytes, read_any_picture),
    "video": (video, bytes, read_video),
    "t7": (t7, bytes, read_t7),
    "t7 with longs of 4": (lambda folder: t7(folder, long_size=4), bytes, read_t7),
    "ascii t7": (lambda folder: t7(folder, ascii=True), bytes, read_t7),
    **{
        name: (partial(published, name), bytes, partial(read_published, name, read))
        for name, read in (
            ("res-64", lambda path: [read_converter(path)]),
            ("hg-256-res-64", read_combined),
            ("hg-256-res-clstm", lambda path: read_forecaster(path)[:1]),
            ("hg-256-res-clstm-res-64", lambda path: read_forecaster(path)[:1]),
        )
    },
    "checkpoint": (lambda _: WHOLE, bytes, read_checkpoint),
    "checkpoint of bearpaw": (lambda _: checkpoint(Bearpaw), bytes, read_checkpoint),
    "mended checkpoint": (pickled, with_pickle, read_checkpoint),
    "legacy checkpoint": (lambda _: checkpoint(Princeton, legacy=True), bytes, read_checkpoint),
    "legacy checkpoint of bearpaw": (lambda _: checkpoint(Bearpaw, legacy=True), bytes, read_checkpoint),
    "npy": (predictions, bytes, lambda path: read_predicted(path, ".npy")),
    "motion capture": (motion, with_motion, read_motion),
    "damaged motion capture": (lambda folder: with_motion(motion(folder)), bytes, read_motion),
    "Human3.6M": (human36m_mat, bytes, read_human36m),
    "bvh": (recorded_bvh, bytes, lambda path: read_recorded(path, "a.bvh")),
    "asf": (lambda folder: recorded_amc(folder, "07.asf"), bytes, lambda path: read_recorded(path, "07.asf")),
    "amc": (lambda folder: recorded_amc(folder, "07_02.amc"), bytes, lambda path: read_recorded(path, "07_02.amc")),
    "json": (keypoints, bytes, lambda path: read_predicted(path, ".json")),
    "mended png": (lambda _: image(".png"), mended_png, read_picture),
}


def read_damaged(kind: str, seeds: range) -> Counter[str]:
    """Read damaged files of one kind; return the numbers of files that were read and that were refused with DataError."""
    make, mend, read = KINDS[kind]
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        whole = make(Path(name))
    for seed in seeds:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "0001"
            path.write_bytes(mend(damage(whole, np.random.default_rng(seed))))
            print(kind, seed, flush=True)
            signal.alarm(20)
            try:
                read(path)
                outcomes["read"] += 1
            except DataError as error:
                assert name in str(error), error
                outcomes["refused"] += 1
            signal.alarm(0)
    return outcomes


if __name__ == "__main__":
    # The limit is added to the address space in use, because CUDA's libraries alone use more than 3 GiB.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (3 << 30), taken + (3 << 30)))
    first, count = map(int, sys.argv[1:3])
    for kind in sys.argv[3:] or KINDS:
        print(kind, dict(read_damaged(kind, range(first, first + count))))
