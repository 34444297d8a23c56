"""The work of every stage as plain functions on paths, arrays and dataclasses; runs and tests without Luigi.

files        files written whole or not at all; digests; space on the disk
links        links to results: symbolic, or text files on disks without them
settings     every setting of the workspace: dataclasses, validated when they are built
fetch        sources: files from a path or from addresses, checked; download is the engine
archives     safe extraction
crop         Penn Action cut to one window per sequence
annotate     every dataset's labels -> train/valid/test.h5 in the published layout
hourglass    the network, of the blocks in blocks; presets names the published ones, cost counts what they take
checkpoints  networks on disk, self-describing, in safetensors
torch7       Torch7 files (.t7), with torch7_reading and torch7_values
torch7_graph an hourglass as a graph of Torch7 modules: import_torch7 reads one, export_torch7 makes one
import_pytorch networks that two PyTorch ports of the hourglass trained
known_models published networks by name
precomputed  networks from elsewhere as checkpoints of ours
cache        the people of the training images, cut out once
loader       annotation files + images -> batches, the same for any number of workers
train        the one training loop; optimise moves the weights, logs tells of it, memory keeps blocks and says what does not fit
distributed  a training in several processes and machines
runtimes     a network as a fast function: PyTorch, onnxruntime, OpenVINO
predict      heatmaps and joints for a whole split
predictor    joints of people in any image, for applications
video        videos read as players show them, and written as H.264
metrics      training accuracy, PCKh, PCK
measures     the accuracies that each dataset is known by
evaluate     a network's accuracy on one dataset
analyse      where it fails
predictions  predicted joints and heatmaps as files that others read
prediction_files  predicted joints of other programs
export       weights for other programs: safetensors, ONNX, Torch7, HDF5; model_card says what they are
forecasting  the hourglass in two halves, and sequences of frames, for networks that forecast
scores       tables of accuracies, published ones beside ours
significance intervals, and tests between two networks
compare      the comparison's tables, tests, curves and pictures
curves       figures of trainings and of PCK
report       the page that shows all of it
draw         skeletons on images, contact sheets
"""
