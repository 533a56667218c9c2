"""The neutral description of a trained model."""
