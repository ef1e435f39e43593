"""Backends: what runs an encoder's forward pass. torch runs every model; onnxruntime and OpenVINO run exports of it."""
