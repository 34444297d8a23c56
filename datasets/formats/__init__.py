"""File formats: each is read and written in one module.

annotations      train/valid/test.h5 in the published layout
matlab           MATLAB files of version 5; version 7.3 in matlab_hdf5; the values of both in matlab_values
"""
