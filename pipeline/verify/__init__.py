"""Verifying a catalog against the service, and repairing what differs.

`job` plans and runs it, `inspection` looks at the data objects by themselves, `comparison` compares their rows with
those of a scan, `sink` does so for each partition that the engine hands it, `metadata` does so with a sample of the
metadata, `findings` words the result. How far a verification is and what it has found is kept by
:mod:`ahi_catalog.connectors.catalog.verification`.
"""
