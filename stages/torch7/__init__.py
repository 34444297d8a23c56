"""Read and write the files and networks of Torch7.

t7               .t7 files (reading, values)
graph            an hourglass as a graph of Torch7 modules
match            compare the graph in a file with the expected one, and read its weights
import_network   Torch7 network -> HourglassNet
export_network   HourglassNet and other networks -> Torch7 network
"""
