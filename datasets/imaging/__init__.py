"""Images, and what is computed on their pixels.

images       reading images: size limits, EXIF orientation, reduced decoding
geometry     affine maps between an image, a crop and a heatmap
heatmaps     drawing target heatmaps and decoding joints from heatmaps
samples      augmentation: one person of one image to a network input and target heatmaps
draw         skeletons on images, contact sheets
"""
