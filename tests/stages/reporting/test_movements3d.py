"""Movements in 3D: the page with skeletons that a user can turn, and the strips of still images."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from datasets.skeletons import Skeleton
from stages.reporting.movements3d import MIDDLE, TRUTH, Movement3D, strips, write_page
from tests.browser import dump

ORANGE, BLUE = (255, 140, 30), (40, 150, 255)  # colours of the right and the left side, as in all other drawings
SKELETON = Skeleton(("head", "right_hand", "left_hand"), (0,), ((0, 1), (0, 2), (1, 2)))
HOSTILE = '</script><script>document.title = "harmed"</script>&"'
# In POSE the right hand is on the left of the image. In TURNED the right hand is nearer to the camera than the left hand.
POSE = np.array([[0.0, -600, 0], [-300, 300, 0], [300, 300, 0]])
TURNED = np.array([[0.0, -600, 0], [0, 300, -300], [0, 300, 300]])


@pytest.fixture
def page(tmp_path):
    """A page with two movements: three steps with true poses, picture and 2D joints, and a single step with poses only."""
    poses = np.stack([POSE + [100 * t, 0, 2500] for t in range(3)])
    truth = poses + 40.4
    truth[1, 2] = np.nan
    picture = np.full((300, 600, 3), (200, 100, 50), np.uint8)
    movements = [Movement3D(HOSTILE, poses, truth, picture, np.full((3, 3, 2), 7.6)), Movement3D("still", TURNED[None])]
    write_page(tmp_path / "movements3d.html", HOSTILE, movements, SKELETON)
    return tmp_path / "movements3d.html"


def test_the_page_holds_the_movements_in_whole_mm_and_texts_stay_texts(page):
    text = page.read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])
    first, second = data["movements"]
    assert first["poses"][2] == [[200, -600, 2500], [-100, 300, 2500], [500, 300, 2500]]
    assert first["truth"][0][0] == [40, -560, 2540] and first["truth"][1][2] is None and first["joints"][0][0] == [8, 8]
    assert first["title"] == HOSTILE and first["size"] == [600, 300] and second["truth"] is second["joints"] is None
    assert [side for *_, side in data["limbs"]] == ["right", "left", ""] and data["colours"]["right"] == "#ff8c1e"
    assert HOSTILE not in text and "&lt;/script&gt;" in text and 'max="3"' in text


def test_the_page_needs_no_other_file_and_no_network(page):
    text = page.read_text()
    sources = re.findall(r'\b(?:src|href)="(.*?)"', text)
    assert len(sources) == 1 and "default-src 'none'" in text
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|\bimport\b", text)
    picture = Image.open(io.BytesIO(base64.b64decode(sources[0].removeprefix("data:image/jpeg;base64,"))))
    assert picture.size == (360, 180) and np.abs(np.array(picture)[90, 180].astype(int) - [200, 100, 50]).max() < 8


PROBE = """<script>
window.addEventListener("load", () => {
  play(false);
  const view = views[0], { canvas } = view, found = {};
  const pointer = (type, x, y, id) => canvas.dispatchEvent(new PointerEvent(type, { pointerId: id, clientX: x, clientY: y }));
  const key = (name) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  const colours = () => {
    draw(view);
    const values = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data, seen = {};
    for (let i = 0; i < values.length; i += 4) if (values[i + 3] === 255) {
      const colour = values.slice(i, i + 3).join(), x = (i / 4) % canvas.width / canvas.width;
      const [count, sum] = seen[colour] || [0, 0];
      seen[colour] = [count + 1, sum + x];
    }
    return Object.fromEntries(Object.entries(seen).map(([colour, [count, sum]]) => [colour, count > 50 && sum / count]));
  };
  document.querySelector('[data-yaw="0"]').click();
  part("truth").value = "hidden";
  part("truth").dispatchEvent(new Event("change"));
  found.camera = colours();
  pointer("pointerdown", 300, 100, 1);
  pointer("pointermove", 0, 120, 1);
  found.pressed = [view.yaw, view.pitch];
  pointer("pointerup", 0, 120, 1);
  pointer("pointermove", 400, 400, 1);
  found.dragged = [view.yaw, view.pitch];
  found.behind = colours();
  pointer("pointerdown", 100, 100, 1);
  pointer("pointerdown", 200, 100, 2);
  pointer("pointermove", 250, 100, 2);
  found.zoom = view.zoom;
  canvas.focus();
  canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: 300 }));
  found.smaller = view.zoom < 1.5;
  key("ArrowUp");
  state.step = 0;  // the page begins to play when it is loaded, so it may have left step 0
  key(">");
  found.keys = [view.pitch, state.step, part("shown").textContent];
  key(" ");
  found.playing = state.playing;
  found.above = turned({ yaw: 0, pitch: 90 }, [0, 0, 100]).map(Math.round);
  found.side = turned({ yaw: 90, pitch: 0 }, [0, 0, 100]).map(Math.round);
  const pre = document.createElement("pre");
  pre.id = "found";
  pre.textContent = JSON.stringify(found);
  document.body.append(pre);
});
</script></body>"""


def test_skeletons_turn_zoom_and_play_in_a_browser(page, tmp_path):
    page.write_text(page.read_text().replace("</body>", PROBE))
    shown = dump(page, tmp_path / "profile")
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', shown)[1])
    assert "<title>harmed" not in shown
    right, left = (",".join(map(str, colour)) for colour in (ORANGE, BLUE))
    assert found["camera"][right] < 0.5 < found["camera"][left]  # the right hand is on the left of the image
    assert found["pressed"] == found["dragged"] == [150, 10]  # the view turns by half a degree per px, if the button is pressed
    assert found["behind"][left] < 0.5 < found["behind"][right]
    assert found["zoom"] == 1.5 and found["smaller"] and found["playing"]
    assert found["keys"] == [0, 1, "2 of 3"]
    assert found["above"] == [0, -100, 0] and found["side"] == [100, 0, 0]  # views from above and from the side


def coloured(square, colour):
    """Return the mean position (x, y), from -0.5 to 0.5, of those pixels of a square that have about this colour, or None."""
    y, x = np.nonzero((np.abs(square.astype(int) - colour) < 20).all(axis=2))
    return None if not len(x) else (np.mean(x) / square.shape[1] - 0.5, np.mean(y) / square.shape[0] - 0.5)


def squares(sheet, side, columns):
    """Return the squares of a contact sheet, row by row. A row is a title of 26 px and squares of `side` px; gaps are 6 px."""
    tops = range(26, len(sheet), side + 32)
    return [[sheet[top : top + side, 6 + k * (side + 6) :][:, :side] for k in range(columns)] for top in tops]


def test_strips_show_steps_from_the_front_from_the_side_and_from_above():
    sheet = strips([Movement3D("turned", np.repeat(TURNED[None] + 5000, 16, axis=0))], SKELETON, 100)
    assert sheet.shape == (3 * 132, 9 * 106 + 6, 3)
    for (front, *_, last), signs in zip(squares(sheet, 100, 9), ((0, 0), (1, 0), (0, -1)), strict=True):
        right, left = coloured(front, ORANGE), coloured(front, BLUE)
        if not any(signs):  # both hands are at one place in the image, where the nearer right hand hides the left
            assert right is not None and left is None
        for axis, sign in enumerate(signs):
            if sign:
                # The left hand is farther from the camera, so it is drawn to the right of the right hand, or above it.
                assert sign * (left[axis] - right[axis]) > 0.1
        np.testing.assert_array_equal(front, last)
    assert coloured(squares(sheet, 100, 9)[1][0], MIDDLE)[1] > 0.05  # the line between the hands is below the square's middle


def test_strips_begin_with_the_picture_and_show_the_truth_and_missing_joints():
    picture = np.full((50, 100, 3), (10, 200, 10), np.uint8)
    poses, truth = np.stack([POSE, POSE]), np.stack([POSE, POSE]) + [[[0, 0, 0], [-400, 0, 0], [400, 0, 0]]]
    poses[1, 1] = np.nan
    sheet = strips([Movement3D("both", poses, truth, picture)], SKELETON, 100)
    first, second, third = squares(sheet, 100, 3)
    assert coloured(first[0], (10, 200, 10)) and coloured(first[1], TRUTH) and coloured(first[1], ORANGE)
    assert coloured(first[2], ORANGE) is None and coloured(first[2], BLUE) is not None
    assert (second[0] == 255).all() and (third[0] == 255).all()
