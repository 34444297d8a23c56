"""Convert unpacked archives to datasets with annotation files.

collect        bringing the labels and images of a dataset of your own into one form
crop           cropping Penn Action to one window per sequence
annotate       writing the labels of each dataset as annotation files
label_checks   finding suspicious labels
"""
