"""Read and write the files and networks of Torch7.

t7               .t7 files (reading, values)
graph            an hourglass as a graph of Torch7 modules
import_network   Torch7 network -> HourglassNet
export_network   HourglassNet -> Torch7 network
"""
