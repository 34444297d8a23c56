"""File formats: each is read and written in one module.

annotations     train/valid/test.h5 in the published layout
coco            COCO keypoints
skeleton_file   skeleton.json: the joints of a dataset whose labels define them
labelling       files of labelling programs, read and written by sleap-io
nwb             poses in a video as NWB
boxes           boxes of people, in tables and COCO files
hdf5            HDF5: writing tables part by part, reading fields with checked sizes
matlab          MATLAB files; version 7.3 through matlab_hdf5, values in matlab_values
mpii_release    MPII's annotation file, and predictions for its evaluation
mpii_published  MPII's people as other projects publish them
mpii_split      files that define MPII's validation split
npz             arrays in NumPy's archive
penn_labels     label files of Penn Action
image_play      image-play's files for cropped Penn Action
"""
