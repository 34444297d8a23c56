"""Read motion capture, the recorded 3D movements of people, from several kinds of files.

clips        movements with named joints, in mm, and their .npz files
human36m     read train.mat and val.mat, which skeleton2d3d makes from Human3.6M
sources      the section [mocap], and the choice of the reader for a file
"""
