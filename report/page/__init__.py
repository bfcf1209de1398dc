"""The report: counts drawn into one HTML file that needs nothing else."""
