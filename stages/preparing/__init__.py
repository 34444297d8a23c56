"""From unpacked archives to converted datasets.

crop           Penn Action cropped to one window for each sequence
annotate       the labels of each dataset as annotation files
label_checks   suspicious labels
"""
