"""Motion capture: movements of people in space, from files of several programs.

clips        movements with named joints, in mm
human36m     train.mat and val.mat of Human3.6M, as skeleton2d3d makes them
sources      the section [mocap], and the reader of each kind of file
"""
