"""Load batches from converted datasets.

loader       samples for training and evaluation, the same for any number of worker processes
crop_cache   cached crops of the people in the training images
augment      augmentation of whole batches on the device
"""
