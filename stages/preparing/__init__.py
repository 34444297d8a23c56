"""Convert unpacked archives to datasets with annotation files.

collect        converting the labels of a dataset of your own to COCO keypoints, and its images to one folder
crop           cropping Penn Action to one window per sequence
annotate       writing the labels of each dataset as annotation files
label_checks   finding suspicious labels
"""
