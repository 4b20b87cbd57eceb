"""The first stages of an EfficientNet on folded images: neighbouring pixels lie in the channels.

A TPU multiplies by 128 x 128 matrices in one unit, and computes depthwise convolutions in another, the vector unit,
that is much slower; of its 128 lanes, 16 to 48 channels fill few. Folded, b x b pixels of such an image are b² times
the channels of an image of a b-th the size. All lanes are full, and a depthwise convolution is a few dense ones of 128
to 128 channels, mostly zeros, in the matrix unit. The results are the same, but for the order of sums.

`geometry` says where pixels lie, `kernels` makes the kernels of timm's model into folded ones, `convolve` computes,
`layers` are the modules that take the place of timm's, `choose` is the rule, and `fold` changes a model.
"""
