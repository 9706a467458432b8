"""The `model` component: ONNX inference with batches across tasks."""

from bend_executors.model.component import ModelComponent as ModelComponent

__all__ = ["ModelComponent"]
