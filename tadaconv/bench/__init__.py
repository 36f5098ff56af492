"""Speed against the plain convolution: of the operator (:mod:`op`) and of a training step (:mod:`step`)."""
