"""Get files from paths and addresses, and unpack archives.

sources      files for the paths and addresses in the settings; digests and records of downloads
download     resumable downloads
archives     safe unpacking of .zip, .tar and .7z; its helper modules are unpacking and seven_zip
kinds        the kind of a file, recognised by its first bytes
folders      datasets that are already unpacked, read in place
"""
