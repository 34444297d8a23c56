"""The computer's processes, memory and CUDA.

pool         worker processes and threads
memory       reuse of large memory blocks, and the error for running out of memory
recorded     CUDA graphs
"""
