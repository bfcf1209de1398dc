"""What becomes of patients' data: the policy of a catalog, its pseudonyms, and rows under it."""
