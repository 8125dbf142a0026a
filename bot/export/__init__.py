"""Exporters: convert a trained model for another engine (CTranslate2, TensorFlow Hub, gpt-2-simple to transformers)."""
