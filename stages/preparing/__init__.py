"""Convert unpacked archives to datasets with annotation files.

collect        convert the labels of a dataset of your own to COCO keypoints, and collect its images in one folder
crop           crop each sequence of Penn Action to one window around all boxes of its person
annotate       write the labels of a dataset as annotation files
combine        combine several datasets, to train on all of them
label_checks   find suspicious labels
"""
