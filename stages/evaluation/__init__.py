"""Measure the accuracy of networks.

oks               object keypoint similarity (OKS), as in COCO's evaluation
metrics           training accuracy, PCKh, PCK
measures          each dataset's standard metrics
accuracy          accuracy.json, the results of an evaluation
evaluate          accuracies of a network on one dataset
groups            accuracies by joint and by action, as tables
stored            accuracies of other programs, from their files of predictions
failures          error analysis: hit rates by joint, action and size of the person; images with the largest errors
scores            tables of accuracies, with published results for comparison
significance      confidence intervals, and tests between two networks
prediction_files  reading files of joints that other programs predicted
"""
