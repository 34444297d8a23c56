"""Images and computations on their pixels.

images       reading images: size limits, EXIF orientation, reduced decoding
geometry     affine maps between an image, a crop and a heatmap
heatmaps     drawing target heatmaps and decoding joints from heatmaps
samples      one person of one image -> network input and target heatmaps; augmentation
draw         drawing skeletons on images, contact sheets
"""
