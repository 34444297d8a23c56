"""Networks from and for other programs.

known_models    published networks by name
import_pytorch  checkpoints of two PyTorch ports of the hourglass
precomputed     networks from elsewhere as our checkpoints
export          weights as safetensors, ONNX, Torch7 and HDF5
model_card      the text that accompanies exported weights
"""
