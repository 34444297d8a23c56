"""File formats, each read and written in one module.

annotations      train/valid/test.h5 in the published layout
matlab           MATLAB files; version 7.3 through matlab_hdf5, values in matlab_values
"""
