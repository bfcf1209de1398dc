"""The two ends, HealthImaging and the Parquet catalog, and what stands between them and the network."""
