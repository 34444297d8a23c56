"""File formats; each format is read and written in one module.

annotations     train/valid/test.h5 in the published layout
coco            COCO keypoints
skeleton_file   skeleton.json: the joints of a dataset whose labels define them
labelling       files of labelling programs, read and written by sleap-io
nwb             NWB files with the poses in a video
boxes           boxes of people, in tables and COCO files
hdf5            HDF5 files: writing tables part by part, reading fields whose sizes are checked
matlab          MATLAB files; matlab_hdf5 reads version 7.3, matlab_values has the types of the values
mpii_release    MPII's annotation file, and predictions for its evaluation
mpii_published  MPII's people as other projects publish them
mpii_split      files that define MPII's validation split
npz             NumPy's .npz archives of arrays
penn_labels     label files of Penn Action
image_play      image-play's files for cropped Penn Action
"""
