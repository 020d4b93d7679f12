"""Ready-made tools. They use the public API alone: what they cannot do, a user cannot do."""
