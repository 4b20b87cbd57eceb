"""Pure updates of flat tensors: optimizers, schedules, scaling, reduction, clipping."""
