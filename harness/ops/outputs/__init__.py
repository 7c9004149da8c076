"""What an op gives: how outputs are compared, how they are called, and each as an op of its own."""
