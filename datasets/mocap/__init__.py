"""Read motion capture, the recorded 3D movements of people, from several kinds of files.

clips        movements with named joints, in mm, and their .npz files
human36m     read train.mat and val.mat, which skeleton2d3d makes from Human3.6M
bones        trees of bones: compute positions of joints, and find the joints of Penn Action
bvh          read .bvh files
acclaim      read .asf and .amc files, the format of CMU's motion capture
recordings   read a file or a folder of .bvh and .amc files; convert to mm with z up
sources      choose the reader for a file or folder
settings     the section [mocap] of luigi.cfg
"""
