"""Read and write the files and networks of Torch7.

t7               read and write .t7 files
reading          read one object from a .t7 file; used by t7
values           Python classes for the objects in a .t7 file
graph            describe an hourglass as a graph of Torch7 modules
match            compare the graph in a file with the expected one, and read its weights
import_network   convert a Torch7 network to a HourglassNet
export_network   convert a HourglassNet and other networks to Torch7 networks
"""
