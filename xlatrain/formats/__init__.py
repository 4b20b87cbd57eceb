"""Weights of a run as what others load: a folder for timm, ONNX, torch.export, StableHLO; each seen to answer alike."""
