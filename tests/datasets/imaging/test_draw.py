"""Tests of drawing the box and the number of a person."""

import numpy as np

from datasets.imaging.draw import PEOPLE, draw_box


def test_a_box_has_the_colour_of_its_number_and_black_edges():
    image = np.full((100, 200, 3), 200, np.uint8)
    for number in range(9):
        drawn = draw_box(image, np.array([40.2, 30, 160, 79.6]), number)
        # These pixels lie on the left, right, bottom and top sides, away from the number in the upper left corner.
        for x, y in ((40, 70), (160, 50), (100, 80), (150, 30)):
            assert tuple(drawn[y, x]) == PEOPLE[number % 7]
        # The edges of the lines are black, and the inside of the box is not changed.
        assert (drawn[50, [159, 161]] == 0).all() and (drawn[50, 100] == 200).all()
    assert (image == 200).all() and len(set(PEOPLE)) == 7


def test_the_number_stays_in_the_image():
    image = np.full((100, 200, 3), 200, np.uint8)
    for left, top in ((-50, -30), (195, -30), (-50, 95), (195, 95)):
        drawn = draw_box(image, np.array([left, top, left + 90, top + 90]), 0)
        x, y = min(max(left, 0), 188), min(max(top, 0), 84)
        label = drawn[y : y + 16, x : x + 12]  # the number covers about 8 x 9 px on a black background
        assert (label == 0).all(axis=2).sum() > 60 and (label[..., 2] > 90).sum() > 8
