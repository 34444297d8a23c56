"""Measure the accuracy of networks.

oks               object keypoint similarity, as COCO scores it
metrics           training accuracy, PCKh, PCK
measures          each dataset's standard metrics
accuracy          accuracy.json, the results of an evaluation
evaluate          accuracies of a network on one dataset
groups            accuracies by joint and by action, as tables
stored            scores of stored predictions of other programs
failures          error analysis: rates by joint, action, size; the worst images
scores            tables of accuracies, next to published ones
significance      confidence intervals, and tests between two networks
prediction_files  reading predicted joints of other programs
"""
