"""What a plan is for unless the command says otherwise: ImageNet's size, the paper's number of epochs."""

DEFAULTS = {"data": "synthetic", "augment": "none", "cluster": "tpu_v3_8", "train.duration": "350ep"}
