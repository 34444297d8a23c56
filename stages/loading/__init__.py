"""Load batches from converted datasets.

loader       training and evaluation samples, independent of the number of worker processes
crop_cache   cached crops of the people in the training images
augment      augmentation of whole batches on the device
"""
