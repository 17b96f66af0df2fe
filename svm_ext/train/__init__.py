"""Training: one readable script per task, over parts that know no task."""
