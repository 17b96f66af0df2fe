"""Turns the data sets that people track with into COCO-VID files that this package and others read.

Folders that are read from are never written to; a file of the result is there whole or not at all.
"""
