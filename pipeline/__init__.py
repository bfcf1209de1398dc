"""What moves rows from one end to the other, without Prefect and without words of the command line."""
