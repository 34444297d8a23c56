"""What the data is; imports nothing of ours.

skeletons    joints of each dataset: names, mirror partners, limbs, which ones score
annotations  train/valid/test.h5 in the published layout
mpii         MPII's annotation struct, and its validation split
penn_action  Penn Action's labels, crop windows, and the published validation split
flic         FLIC's published annotation files, with the person's own sides or the observer's
lsp          Leeds Sports Pose and its extension: joints.mat, boxes, splits
matlab       reading MATLAB files without trusting their sizes
geometry     affine maps between image, crop and heatmap
heatmaps     drawing targets, and finding joints in heatmaps
samples      from an image and its labels to a network's input and target
synthetic    drawn sample data in the official formats; synthetic_pictures, poses, drawing_people and drawing_scenes draw it
citations    whose each dataset is, on what terms, and what to cite
errors       the exception for bad input
"""
