"""Iceberg tables that equal the tables of a catalog: their form, their files, the mirror, and their history.

A mirror keeps no state of its own. What the table should hold is a listing of the catalog, what it does hold is told by
the paths of its data files, and their difference is one commit.
"""
