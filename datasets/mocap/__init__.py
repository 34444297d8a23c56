"""Read motion capture, the recorded 3D movements of people, from several kinds of files.

clips        movements with named joints, in mm, and their .npz files
human36m     read train.mat and val.mat, which skeleton2d3d makes from Human3.6M
bones        trees of bones: where joints are, and which of them are the joints of Penn Action
bvh          read .bvh files
acclaim      read .asf and .amc files, such as CMU's
recordings   read a file or a folder of .bvh and .amc files, in mm with z up
sources      the section [mocap], and the choice of the reader for a file
"""
