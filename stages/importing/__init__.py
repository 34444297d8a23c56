"""Import networks that others have trained.

known_models    published networks by name
import_pytorch  checkpoints of two PyTorch ports of the hourglass
precomputed     conversion of such networks to checkpoints of this workspace
"""
