"""Training data: extraction of reply pairs from dumps and BigQuery, cleaning, and the training files."""
