"""Drawn pictures of fish with known joints, as COCO keypoints and in the file formats of DeepLabCut and SLEAP."""

import json
from pathlib import Path

import cv2
import numpy as np

JOINTS = ("Nose", "FinL", "FinR", "Back", "Tail")
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)]
BODY = np.array([[0, -60], [-25, -10], [25, -10], [0, 10], [0, 60]], float)  # joints in px, relative to the fish's middle
WIDTH, HEIGHT = 320, 240  # of a picture, in px


def fish(number: int) -> list[np.ndarray]:
    """Return the joints (5, 2) in 0-based px of each of the one or two fish in picture `number`."""
    rng = np.random.default_rng(number)
    found = []
    for left in (80, 240) if number % 5 == 0 else (160,):
        angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 0.9)
        turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        found.append(BODY @ turn.T + (left, rng.uniform(80, 160)))
    return found


def picture(number: int) -> np.ndarray:
    """Return picture `number`, (240, 320, 3) uint8 RGB."""
    image = np.full((HEIGHT, WIDTH, 3), 80, np.uint8) + np.random.default_rng(number).integers(
        0, 30, (HEIGHT, WIDTH, 3), np.uint8
    )
    for joints in fish(number):
        cv2.fillPoly(image, [joints[[0, 1, 4, 2]].astype(np.int32)], (200, 180, 60))
        for joint, colour in zip(joints.round().astype(int).tolist(), COLOURS, strict=True):
            cv2.circle(image, joint, 5, colour, -1)
    return image


def write_pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:03d}.png"), picture(number)[:, :, ::-1])


def coco(count: int) -> dict:
    """Return COCO keypoints of the first `count` pictures, as labelling programs export them."""
    images = [{"id": n + 1, "file_name": f"{n:03d}.png", "width": WIDTH, "height": HEIGHT} for n in range(count)]
    people = []
    for number in range(count):
        for joints in fish(number):
            low, size = joints.min(axis=0), np.ptp(joints, axis=0)
            values = np.column_stack((joints, np.full(5, 2)))
            people.append({
                "id": len(people) + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 5,
                "keypoints": values.ravel().tolist(), "bbox": [*low.tolist(), *size.tolist()], "area": float(size.prod()),
            })  # fmt: skip
    category = {"id": 1, "name": "fish", "keypoints": list(JOINTS), "skeleton": [[1, 4], [2, 4], [3, 4], [4, 5]]}
    return {"info": {}, "images": images, "annotations": people, "categories": [category]}


def write_coco(folder: Path, count: int) -> None:
    """Write images/ and labels.json into a folder."""
    write_pictures(folder / "images", count)
    (folder / "labels.json").write_text(json.dumps(coco(count)))


def write_deeplabcut(folder: Path, count: int) -> None:
    """Write a DeepLabCut project with two videos, in which the first fish of each picture is labelled."""
    lines = ["scorer,,," + ",".join(["me"] * 10), "bodyparts,,," + ",".join(j for j in JOINTS for _ in "xy"),
             "coords,,," + ",".join("xy" * 5)]  # fmt: skip
    for video, numbers in (("one", range(count // 2)), ("two", range(count // 2, count))):
        place = folder / "labeled-data" / video
        place.mkdir(parents=True)
        rows = []
        for number in numbers:
            cv2.imwrite(str(place / f"img{number:04d}.png"), picture(number)[:, :, ::-1])
            values = ",".join(f"{value:.3f}" for value in fish(number)[0].ravel())
            rows.append(f"labeled-data,{video},img{number:04d}.png,{values}")
        (place / "CollectedData_me.csv").write_text("\n".join(lines + rows) + "\n")
    (folder / "config.yaml").write_text(
        "Task: fish\nscorer: me\nmultianimalproject: false\nbodyparts: [Nose, FinL, FinR, Back, Tail]\n"
        "skeleton: [[Nose, Back], [Back, Tail]]\nvideo_sets:\n  /elsewhere/one.mp4: {crop: '0, 320, 0, 240'}\n"
    )


def write_sleap(folder: Path, count: int, inside: bool = False) -> None:
    """Write a video swim.mp4 and its labels swim.slp or, if `inside`, swim.pkg.slp, which contains the images."""
    import av
    import sleap_io

    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / "swim.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, "yuv420p", {"crf": "5"}
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    skeleton = sleap_io.Skeleton(list(JOINTS), edges=[("Nose", "Back"), ("Back", "Tail")], symmetries=[("FinL", "FinR")])
    video = sleap_io.Video.from_filename(str(folder / "swim.mp4"))
    frames = [
        sleap_io.LabeledFrame(
            video=video, frame_idx=n, instances=[sleap_io.Instance.from_numpy(j, skeleton=skeleton) for j in fish(n)]
        )
        for n in range(count)
    ]
    name = "swim.pkg.slp" if inside else "swim.slp"
    sleap_io.Labels(frames).save(str(folder / name), embed=inside, verbose=False)
