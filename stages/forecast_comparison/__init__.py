"""Compare the forecasts of a network with those of baselines and of other programs.

baselines   forecasts without a network
pose_only   forecasts of small networks from the joints of one frame, without its image
eval_files  forecasts in image-play's files
space       errors of 3D poses in mm by step, where the truth is known
pictures    strips of poses, and animations
compare     tables, curves, significance tests and pictures of all forecasts
"""
