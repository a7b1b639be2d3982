"""From trained weights to a bundle: ONNX, parity, engines."""
