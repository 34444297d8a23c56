"""From paths and addresses to unpacked files.

sources      what a source in the settings means; digests and records of downloads
download     resumable downloads
archives     safe unpacking of .zip, .tar and .7z (unpacking, seven_zip)
kinds        the kind of a file by its first bytes
folders      datasets that are already unpacked, read in place
"""
