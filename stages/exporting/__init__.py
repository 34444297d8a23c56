"""Export trained networks for other programs.

export      the weights in all formats
model_json  model.json, the description for programs
model_card  MODEL_CARD.md, the description for people
use_onnx    the program use_onnx.py of an export
"""
