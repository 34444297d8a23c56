"""Manage the processes, the memory and the CUDA graphs of this computer.

pool         worker processes and threads
memory       reuse of large memory blocks, and the error for running out of memory
cuda_graphs  CUDA graphs
stopping     signals that ask a training to stop
"""
