"""From converted datasets to batches.

loader       training and evaluation samples, the same for any number of worker processes
crop_cache   the people of the training images, cropped once
augment      augmentation of whole batches on the device
"""
