"""Where a run's figures go beside metrics.jsonl: TensorBoard, CSV, Weights & Biases, MLflow."""
